package guardrailbundle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
)

// decision is what is to be in force, and what is to be said of it.
type decision struct {
	// reason of Ready, and message. Ready is True where the reason is InForce.
	reason, message string
	// active is the bundle in force from now on; nil for none.
	active *v1alpha1.ActiveBundle
	// archive to keep first; nil if it is kept already.
	archive []byte
	// compiled is what was found to compile.
	compiled version
}

// refusal of a bundle.
type refusal struct{ reason, why string }

// decide what is in force. It is pure.
func decide(seen *observation) decision {
	b := seen.bundle
	if b.Spec.Suspend {
		return decision{reason: v1alpha1.ReasonSuspended, message: "suspended; " + standing(seen), active: b.Status.Active}
	}
	active, compiled, refused := accept(seen)
	if refused != nil {
		return decision{reason: refused.reason, message: refused.why + "; " + standing(seen), active: b.Status.Active, compiled: seen.compiled}
	}
	d := decision{
		reason: v1alpha1.ReasonInForce, message: fmt.Sprintf("revision %s with %s", active.Revision, count(len(active.Guardrails), "guardrail")),
		active: active, compiled: compiled,
	}
	if kept(seen, active.Digest) == nil {
		d.archive = seen.fetched
	}
	return d
}

// standing says what goes on being in force.
func standing(seen *observation) string {
	active := seen.bundle.Status.Active
	switch {
	case active == nil:
		return "no bundle is in force, and what this one matches is refused"
	case kept(seen, active.Digest) == nil:
		return fmt.Sprintf("the archive of revision %s is gone, and what this bundle matches is refused", active.Revision)
	}
	return fmt.Sprintf("revision %s stays in force", active.Revision)
}

// kept is the archive of that digest, if it is kept, and is what it says.
func kept(seen *observation, digest string) *corev1.ConfigMap {
	for _, a := range seen.archives {
		if a.Name == bundle.ArchiveName(seen.bundle.Name, digest) && bundle.Digest(a.BinaryData[bundle.ArchiveKey]) == digest {
			return a
		}
	}
	return nil
}

// accept what was fetched, or say why not. Nothing in it is parsed as policy before
// it is known who signed it.
func accept(seen *observation) (*v1alpha1.ActiveBundle, version, *refusal) {
	refuse := func(reason, format string, args ...any) (*v1alpha1.ActiveBundle, version, *refusal) {
		return nil, version{}, &refusal{reason, fmt.Sprintf(format, args...)}
	}
	b := seen.bundle
	if seen.fetchErr != nil {
		return refuse(v1alpha1.ReasonFetchFailed, "%s", seen.fetchErr)
	}
	found := version{b.Generation, bundle.Digest(seen.fetched)}
	if b.Spec.Digest != "" && b.Spec.Digest != found.digest {
		return refuse(v1alpha1.ReasonVerificationFailed, "the source has %s, and not the %s that spec.digest asks for", found.digest, b.Spec.Digest)
	}
	opened, err := bundle.Open(seen.fetched)
	if err != nil {
		return refuse(v1alpha1.ReasonInvalid, "what the source has %s", err)
	}
	signer, err := verify(opened, &b.Spec)
	if err != nil {
		return refuse(v1alpha1.ReasonVerificationFailed, "what the source has %s", err)
	}
	revision, err := opened.Revision()
	if err != nil {
		return refuse(v1alpha1.ReasonInvalid, "%s", err)
	}
	if why := older(seen, revision, found.digest); why != "" {
		return refuse(v1alpha1.ReasonRollback, "%s", why)
	}
	active := b.Status.Active
	if active == nil || active.Digest != found.digest {
		active = &v1alpha1.ActiveBundle{Digest: found.digest, Since: metav1.NewTime(seen.now.Truncate(time.Second))}
	} else {
		active = active.DeepCopy()
	}
	active.Revision, active.KeyID = revision.String(), signer
	if seen.compiled == found {
		return active, found, nil
	}
	guardrails, err := opened.Guardrails(b.Name, &b.Spec)
	if err != nil {
		return refuse(v1alpha1.ReasonInvalid, "revision %s %s", revision, err)
	}
	active.Guardrails = nil
	for _, g := range guardrails {
		active.Guardrails = append(active.Guardrails, strings.TrimPrefix(g.Name, b.Name+"/"))
	}
	return active, found, nil
}

// verify who signed, and return the ID of the key; "" where nobody has to.
func verify(opened *bundle.Bundle, spec *v1alpha1.GuardrailBundleSpec) (string, error) {
	switch {
	case spec.Verification != nil:
		s, err := opened.Verify(spec.Verification)
		return s.KeyID, err
	case spec.Unsigned != "Allowed":
		return "", fmt.Errorf("cannot be verified: the bundle has no keys")
	}
	return "", opened.VerifyUnsigned()
}

// older says why a revision may not follow the one in force; "" if it may.
func older(seen *observation, revision bundle.Revision, digest string) string {
	text, is := floor(seen)
	if is == digest || text == "" {
		return ""
	}
	than, err := bundle.ParseRevision(text)
	if err != nil { // nobody but Sallyport writes it
		return fmt.Sprintf("the revision in force cannot be read: %s", err)
	}
	switch revision.Compare(than) {
	case -1:
		return fmt.Sprintf("revision %s is older than revision %s", revision, than)
	case 0:
		return fmt.Sprintf("revision %s is as old as revision %s, and has other content", revision, than)
	}
	return ""
}

// floor is the revision that none may be older than, and its digest: of the bundle
// in force or, where the status was lost, the newest of those that were kept.
func floor(seen *observation) (revision, digest string) {
	if active := seen.bundle.Status.Active; active != nil {
		return active.Revision, active.Digest
	}
	archives := slices.Clone(seen.archives)
	slices.SortFunc(archives, func(a, b *corev1.ConfigMap) int {
		x, _ := bundle.ParseRevision(a.Annotations[revisionAnnotation])
		y, _ := bundle.ParseRevision(b.Annotations[revisionAnnotation])
		return -x.Compare(y)
	})
	if len(archives) == 0 {
		return "", ""
	}
	return archives[0].Annotations[revisionAnnotation], archives[0].Annotations[digestAnnotation]
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
