FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
# The modules change less often than the sources: a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY internal internal
# Lint knows the kinds by their definitions.
COPY config/crd config/crd
ARG TARGETOS TARGETARCH VERSION=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /sallyport ./cmd/sallyport

# Nothing but the binary and the roots of trust: no shell, no package manager.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /sallyport /sallyport
# A number, so that runAsNonRoot can be checked.
USER 65532:65532
ENTRYPOINT ["/sallyport"]
