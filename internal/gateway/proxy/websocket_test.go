package proxy

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// TestS2WebSocketCredential: a token may come as a subprotocol. It is the caller's, for
// the hub, and no member gets it.
func TestS2WebSocketCredential(t *testing.T) {
	who, err := identityOf(&guardrail.User{Name: "alice"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const token = "base64url.bearer.authorization.k8s.io.c2VjcmV0"
	for name, tc := range map[string]struct {
		reason     string
		sent, want []string
	}{
		"None":      {"What is no credential stays as it is.", []string{"v5.channel.k8s.io,v4.channel.k8s.io"}, []string{"v5.channel.k8s.io,v4.channel.k8s.io"}},
		"First":     {"The token goes.", []string{token + ", v4.channel.k8s.io"}, []string{"v4.channel.k8s.io"}},
		"Last":      {"The token goes.", []string{"v5.channel.k8s.io, v4.channel.k8s.io, " + token}, []string{"v5.channel.k8s.io, v4.channel.k8s.io"}},
		"SecondOne": {"A header may come twice, and is one.", []string{"v4.channel.k8s.io", token}, []string{"v4.channel.k8s.io"}},
		"Upper":     {"In any case.", []string{"BASE64URL.bearer.authorization.K8S.io.c2VjcmV0, x"}, []string{"x"}},
		"Alone":     {"Then there is no header.", []string{token}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{"Sec-Websocket-Protocol": tc.sent}
			who.set(h)
			if diff := cmp.Diff(tc.want, h["Sec-Websocket-Protocol"]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestUpgradeOverHTTP2: HTTP/2 has no such thing, and a member is not asked to try.
func TestUpgradeOverHTTP2(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the member was asked") })
	r := httptest.NewRequest(http.MethodGet, Prefix+"prod/proxy"+pods+"/api-0/exec", nil)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r.WithContext(request.WithUser(t.Context(), &user.DefaultInfo{Name: "alice", Groups: []string{"devs"}})))
	if layer, _ := layerOf(t, answer.Body.String()); answer.Code != http.StatusBadRequest || layer != decisionlog.LayerRequest {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
}
