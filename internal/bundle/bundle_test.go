package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	opa "github.com/open-policy-agent/opa/v1/bundle"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
)

// entry of an archive, as nobody should write it.
type entry struct {
	name, content string
	kind          byte // a file if zero
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o600}
		switch e.kind {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.content))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.content
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, e.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// files of an archive.
func files(t testing.TB, archive []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(content)
	}
}

// with is an archive of the files after a change.
func with(t testing.TB, raw []byte, change func(map[string]string)) []byte {
	t.Helper()
	content := files(t, raw)
	change(content)
	var entries []entry
	for _, name := range slices.Sorted(maps.Keys(content)) {
		entries = append(entries, entry{name: name, content: content[name]})
	}
	return archive(t, entries...)
}

const (
	manifest42 = `{"revision":"42","roots":["guardrails","sallyport"],"rego_version":1}`
	module     = "package guardrails.exec\n\ndeny contains \"no exec\" if input.grant\n"
	data       = `{"sallyport": {"guardrails": {"exec": {"package": "data.guardrails.exec"}}}}`
)

func simple(t testing.TB) []byte {
	return archive(t, entry{name: "/.manifest", content: manifest42}, entry{name: "/data.json", content: data},
		entry{name: "/guardrails/exec/policy.rego", content: module})
}

// TestOpen: what is no bundle, or none that can be verified, is not opened.
func TestOpen(t *testing.T) {
	m := entry{name: ".manifest", content: manifest42}
	tests := map[string]struct {
		reason  string
		archive []byte
		want    string
	}{
		"OPA":      {"OPA begins paths with a slash.", simple(t), ""},
		"Tar":      {"tar begins them with a dot, and lists folders.", archive(t, entry{name: "./", kind: tar.TypeDir}, entry{name: "./.manifest", content: manifest42}), ""},
		"Up":       {"No path leads out.", archive(t, m, entry{name: "../data.json"}), `has "../data.json", which leads out of it`},
		"UpInside": {"Not even by a detour.", archive(t, m, entry{name: "a/../../data.json"}), `which leads out of it`},
		"Absolute": {"OPA writes one slash; two are a path elsewhere.", archive(t, m, entry{name: "//etc/passwd"}), `which leads out of it`},
		"Windows":  {"A backslash divides paths elsewhere.", archive(t, m, entry{name: `..\x`}), `which leads out of it`},
		"Symlink":  {"A link leads anywhere.", archive(t, m, entry{name: "x", content: "/etc/passwd", kind: tar.TypeSymlink}), "neither a file nor a folder"},
		"Hardlink": {"So does this one.", archive(t, m, entry{name: "x", content: "/etc/passwd", kind: tar.TypeLink}), "neither a file nor a folder"},
		"Device":   {"Nor is a device a policy.", archive(t, m, entry{name: "x", kind: tar.TypeChar}), "neither a file nor a folder"},
		"Twice":    {"Which of two files is meant depends on who reads.", archive(t, m, entry{name: "/.manifest", content: manifest42}), "twice"},
		"Delta":    {"S25: a delta bundle cannot be signed.", archive(t, entry{name: "/patch.json", content: `{"data":[]}`}), "is a delta bundle"},
		"DeltaBelow": {"OPA takes it for one in any folder.",
			archive(t, m, entry{name: "a/patch.json", content: `{"data":[]}`}), "is a delta bundle"},
		"Wasm":             {"It would not be judged as Rego is.", archive(t, m, entry{name: "policy.wasm"}), "WebAssembly"},
		"Plan":             {"Nor would this.", archive(t, m, entry{name: "plan.json"}), "plans are not read"},
		"Protobuf":         {"One form of manifest.", archive(t, entry{name: ".manifest.pb"}), "has to be JSON"},
		"ManifestBelow":    {"OPA would take it for the manifest.", archive(t, m, entry{name: "a/.manifest", content: manifest42}), "belongs at its root"},
		"SignaturesBelow":  {"OPA would take it for the signature.", archive(t, m, entry{name: "a/.signatures.json", content: "{}"}), "belongs at its root"},
		"NoManifest":       {"There is no revision.", archive(t, entry{name: "data.json", content: "{}"}), "has no .manifest"},
		"ManifestIsList":   {"Nor here.", archive(t, entry{name: ".manifest", content: "[]"}), "no JSON object"},
		"ManifestAndMore":  {"What follows is hashed by one reader and not read by another.", archive(t, entry{name: ".manifest", content: manifest42 + "{}"}), "no JSON object"},
		"RegoV0":           {"The old Rego means other things.", archive(t, entry{name: ".manifest", content: `{"revision":"1","rego_version":0}`}), "only v1 is read"},
		"RegoV0OfOneFile":  {"Also in one file.", archive(t, entry{name: ".manifest", content: `{"revision":"1","file_rego_versions":{"/a.rego":0}}`}), "only v1 is read"},
		"NoArchive":        {"It is something else.", []byte("{}"), "is no .tar.gz"},
		"Cut":              {"It ends too early.", simple(t)[:150], "cannot be unpacked"},
		"LargeArchive":     {"It would not fit into a ConfigMap.", make([]byte, bundle.MaxArchive+1), "the most is"},
		"Bomb":             {"It unpacks to more than it may.", archive(t, m, entry{name: "bomb.json", content: strings.Repeat("0", bundle.MaxContent+1)}), "has more than 16777216 bytes"},
		"BombOfMany":       {"All files together.", archive(t, m, entry{name: "a", content: strings.Repeat("0", bundle.MaxContent/2)}, entry{name: "b", content: strings.Repeat("0", bundle.MaxContent/2)}), "has more than 16777216 bytes"},
		"BombOfHeaders":    {"And what describes them.", archive(t, m, entry{name: "a", content: strings.Repeat("0", bundle.MaxContent-3*512)}, entry{name: "b"}), "has more than 16777216 bytes"},
		"ManyFolders":      {"Entries cost, also without content.", archive(t, append(slices.Repeat([]entry{{name: "a/", kind: tar.TypeDir}}, bundle.MaxFiles), m)...), "has more than 2000 entries"},
		"UnsignedIsOpened": {"Whether a signature is needed is not asked here.", simple(t), ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := bundle.Open(tc.archive)
			check(t, tc.reason, tc.want, err)
			if err == nil && b.Digest != bundle.Digest(tc.archive) {
				t.Errorf("digest %q is not that of the archive", b.Digest)
			}
		})
	}
}

// check that an error contains what is wanted, or that there is none.
func check(t *testing.T, reason, want string, err error) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s\nrefused: it %v", reason, err)
	case want != "" && err == nil:
		t.Errorf("%s\naccepted, want %q", reason, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%s\nerror %q, want %q", reason, err, want)
	}
}

func TestRevision(t *testing.T) {
	tests := map[string]struct {
		reason string
		text   string
		number uint64
		want   string
	}{
		"Number":   {"The least.", "42", 42, ""},
		"Commit":   {"Time and commit.", "1732350000+4f2c1e", 1732350000, ""},
		"Dash":     {"A dash.", "7-rc1", 7, ""},
		"At":       {"An at sign.", "7@main", 7, ""},
		"Zero":     {"A number, too.", "0", 0, ""},
		"None":     {"OPA does not ask for one.", "", 0, "no revision"},
		"Commits":  {"Commits have no order.", "4f2c1e", 0, "does not begin with a number"},
		"Version":  {"1.10 is more than 1.9, or less.", "1.10", 0, "does not begin with a number"},
		"Negative": {"There is none below zero.", "-1", 0, "does not begin with a number"},
		"Plus":     {"Nor with a sign.", "+1", 0, "does not begin with a number"},
		"Space":    {"Nor with a space.", " 1", 0, "does not begin with a number"},
		"Overflow": {"It would begin again at zero.", "99999999999999999999", 0, "does not begin with a number"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := bundle.ParseRevision(tc.text)
			check(t, tc.reason, tc.want, err)
			if err == nil && (r.Number != tc.number || r.String() != tc.text) {
				t.Errorf("%s\nread %d %q, want %d %q", tc.reason, r.Number, r, tc.number, tc.text)
			}
		})
	}
}

// pair of keys in PEM.
type pair struct{ private, public string }

func newPair(t testing.TB, key crypto.Signer) pair {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}
}

func ecPair(t testing.TB) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newPair(t, key)
}

// rsaKeys take their time to make.
var rsaKeys = map[int]func() (*rsa.PrivateKey, error){
	1024: sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 1024) }),
	2048: sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
}

func rsaPair(t testing.TB, bits int) pair {
	t.Helper()
	key, err := rsaKeys[bits]()
	if err != nil {
		t.Fatal(err)
	}
	return newPair(t, key)
}

func sign(t testing.TB, raw []byte, s bundle.Signer) []byte {
	t.Helper()
	signed, err := bundle.Sign(raw, s)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// opaSign signs with OPA's own code, whatever is asked.
func opaSign(t testing.TB, key, algorithm, id string, infos ...opa.FileInfo) string {
	t.Helper()
	token, err := opa.GenerateSignedToken(infos, opa.NewSigningConfig(key, algorithm, ""), id)
	if err != nil {
		t.Fatal(err)
	}
	return `{"signatures":["` + token + `"]}`
}

func trusts(scope string, keys ...v1alpha1.BundleKey) *v1alpha1.BundleVerification {
	return &v1alpha1.BundleVerification{Keys: keys, Scope: scope}
}

// TestVerify: S25. Only what a trusted key has signed, all of it and nothing else,
// is accepted.
func TestVerify(t *testing.T) {
	ec, other, rs, weak := ecPair(t), ecPair(t), rsaPair(t, 2048), rsaPair(t, 1024)
	es256 := func(p pair) v1alpha1.BundleKey {
		return v1alpha1.BundleKey{ID: "k", Algorithm: "ES256", PublicKey: p.public}
	}
	plain := simple(t)
	signed := sign(t, plain, bundle.Signer{Key: ec.private, KeyID: "k", Algorithm: "ES256"})
	scoped := sign(t, plain, bundle.Signer{Key: ec.private, KeyID: "k", Algorithm: "ES256", Scope: "prod"})
	signatures := func(text string) []byte {
		return with(t, plain, func(f map[string]string) { f[".signatures.json"] = text })
	}
	hashed := func(algorithm opa.HashingAlgorithm) []byte {
		var infos []opa.FileInfo
		for name := range files(t, plain) {
			infos = append(infos, opa.NewFile(strings.TrimPrefix(name, "/"), "00", algorithm.String()))
		}
		return signatures(opaSign(t, ec.private, "ES256", "k", infos...))
	}
	named := func(names ...string) []byte {
		hasher, err := opa.NewSignatureHasher(opa.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		var infos []opa.FileInfo
		for _, name := range names {
			var value any = []byte(files(t, plain)["/guardrails/exec/policy.rego"])
			if strings.HasSuffix(name, "data.json") || strings.HasSuffix(name, ".manifest") {
				if err := json.Unmarshal([]byte(files(t, plain)["/"+path.Base(name)]), &value); err != nil {
					t.Fatal(err)
				}
			}
			sum, err := hasher.HashFile(value)
			if err != nil {
				t.Fatal(err)
			}
			infos = append(infos, opa.NewFile(name, hex.EncodeToString(sum), "SHA-256"))
		}
		return signatures(opaSign(t, ec.private, "ES256", "k", infos...))
	}
	tests := map[string]struct {
		reason  string
		archive []byte
		trusted *v1alpha1.BundleVerification
		want    string
	}{
		"Dots": {"opa sign names files as tar does.", named("./.manifest", "./data.json", "./guardrails/exec/policy.rego"), trusts("", es256(ec)), ""},
		"TwoNames": {"Which of them is meant?", named(".manifest", "./.manifest", "data.json", "guardrails/exec/policy.rego"), trusts("", es256(ec)),
			`is signed for ".manifest" twice`},
		"NameUp":    {"No name leads out.", named("../.manifest"), trusts("", es256(ec)), "leads out of it"},
		"Signed":    {"It is as it was signed.", signed, trusts("", es256(ec)), ""},
		"OneOfMany": {"One key suffices.", signed, trusts("", v1alpha1.BundleKey{ID: "old", PublicKey: rs.public}, es256(ec)), ""},
		"Scope":     {"It is for this scope.", scoped, trusts("prod", es256(ec)), ""},
		"NoKeyID": {"opa sign names no key unless it is told to: then any may be meant.",
			sign(t, plain, bundle.Signer{Key: ec.private, Algorithm: "ES256"}),
			trusts("", v1alpha1.BundleKey{ID: "other", Algorithm: "ES256", PublicKey: other.public}, es256(ec)), ""},
		"RSA":      {"RS256 is what OPA signs with.", sign(t, plain, bundle.Signer{Key: rs.private, KeyID: "k"}), trusts("", v1alpha1.BundleKey{ID: "k", PublicKey: rs.public}), ""},
		"PS512":    {"The same key, another algorithm.", sign(t, plain, bundle.Signer{Key: rs.private, KeyID: "k", Algorithm: "PS512"}), trusts("", v1alpha1.BundleKey{ID: "k", Algorithm: "PS512", PublicKey: rs.public}), ""},
		"Unsigned": {"There is nothing to verify.", plain, trusts("", es256(ec)), "is not signed"},
		"UnknownKey": {"A key that is not trusted.", signed, trusts("", v1alpha1.BundleKey{ID: "old", Algorithm: "ES256", PublicKey: ec.public}),
			`is signed with the key "k", which is not one of those that are trusted`},
		"OtherKey":       {"A key of the same name.", signed, trusts("", es256(other)), `is not signed with the key "k"`},
		"OtherAlgorithm": {"The key says for which algorithm it is.", signed, trusts("", v1alpha1.BundleKey{ID: "k", PublicKey: rs.public}), `is signed with ES256, and the key "k" is for RS256`},
		"OtherScope":     {"It was signed for somewhere else.", scoped, trusts("dev", es256(ec)), `for the scope "prod", and not for "dev"`},
		"NoScope":        {"It was signed for anywhere, and somewhere is asked for.", signed, trusts("prod", es256(ec)), `for the scope "", and not for "prod"`},
		"Tampered": {"A byte of a module.", with(t, signed, func(f map[string]string) {
			f["guardrails/exec/policy.rego"] = strings.Replace(module, "input.grant", "input.grand", 1)
		}), trusts("", es256(ec)), "is not what was signed"},
		"TamperedData": {"A value of the data.", with(t, signed, func(f map[string]string) {
			f["data.json"] = strings.Replace(data, `"exec": {`, `"exec": {"enforcement": "Audit", `, 1)
		}), trusts("", es256(ec)), "is not what was signed"},
		"TamperedRevision": {"The revision.", with(t, signed, func(f map[string]string) {
			f[".manifest"] = strings.Replace(f[".manifest"], "42", "43", 1)
		}), trusts("", es256(ec)), "is not what was signed"},
		"Added":        {"A file more.", with(t, signed, func(f map[string]string) { f["more.rego"] = "package more\n" }), trusts("", es256(ec)), `has "more.rego", which the signature does not cover`},
		"AddedNothing": {"Also one that means nothing.", with(t, signed, func(f map[string]string) { f["README"] = "" }), trusts("", es256(ec)), "does not cover"},
		"Removed":      {"A file less.", with(t, signed, func(f map[string]string) { delete(f, "guardrails/exec/policy.rego") }), trusts("", es256(ec)), `lacks "guardrails/exec/policy.rego", which was signed`},
		"HS256":        {"A shared secret: who verifies could sign.", signatures(opaSign(t, ec.public, "HS256", "k")), trusts("", es256(ec)), `the algorithm "HS256"`},
		"HS256Key": {"Not even where the key says so.", signatures(opaSign(t, ec.public, "HS256", "k")),
			trusts("", v1alpha1.BundleKey{ID: "k", Algorithm: "HS256", PublicKey: ec.public}), `the algorithm "HS256"`},
		"None":         {"No signature at all.", signatures(`{"signatures":["eyJhbGciOiJub25lIiwia2lkIjoiayJ9.eyJmaWxlcyI6W119."]}`), trusts("", es256(ec)), `the algorithm "none"`},
		"NoSignatures": {"An empty list.", signatures(`{"signatures":[]}`), trusts("", es256(ec)), "has 0 signatures"},
		"TwoTokens":    {"Which counts?", signatures(`{"signatures":["a.b.c","a.b.c"]}`), trusts("", es256(ec)), "has 2 signatures"},
		"Garbage":      {"No token.", signatures(`{"signatures":["abc"]}`), trusts("", es256(ec)), "no JSON Web Token"},
		"Plugin":       {"Who verifies it is not known.", signatures(`{"signatures":["a.b.c"],"plugin":"mine"}`), trusts("", es256(ec)), `the plugin "mine"`},
		"MD5":          {"Another file has the same digest.", hashed(opa.MD5), trusts("", es256(ec)), `the digest "MD5"`},
		"SHA1":         {"So has this one.", hashed(opa.SHA1), trusts("", es256(ec)), `the digest "SHA-1"`},
		"SHA224":       {"Weaker than sha256.", hashed(opa.SHA224), trusts("", es256(ec)), `the digest "SHA-224"`},
		"PrivateKey":   {"A private key is not to be where public ones are.", signed, trusts("", v1alpha1.BundleKey{ID: "k", Algorithm: "ES256", PublicKey: ec.private}), "no public key"},
		"OtherKind":    {"A key that is for other algorithms.", signed, trusts("", v1alpha1.BundleKey{ID: "k", Algorithm: "ES256", PublicKey: rs.public}), "is an RSA key, and ES256 takes one of ECDSA"},
		"TwoKeys":      {"Which of them counts?", signed, trusts("", v1alpha1.BundleKey{ID: "k", Algorithm: "ES256", PublicKey: ec.public + other.public}), "is not one key in PEM"},
		"NoKey":        {"No key at all.", signed, trusts("", v1alpha1.BundleKey{ID: "k", Algorithm: "ES256", PublicKey: "PUBLIC KEY"}), "is not one key in PEM"},
		"WeakKey": {"1024 bits can be factored.", sign(t, plain, bundle.Signer{Key: rs.private, KeyID: "k"}),
			trusts("", v1alpha1.BundleKey{ID: "k", PublicKey: weak.public}), "has 1024 bits"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := bundle.Open(tc.archive)
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Verify(tc.trusted)
			check(t, tc.reason, tc.want, err)
		})
	}
}

// TestVerifyUnsigned: S25. Where no signature is asked for, one that nobody can
// verify is still no reason to believe anything.
func TestVerifyUnsigned(t *testing.T) {
	tests := map[string]struct {
		reason  string
		archive []byte
		want    string
	}{
		"Unsigned": {"It says nothing of who made it.", simple(t), ""},
		"Signed": {"It says so, and nobody can tell.",
			sign(t, simple(t), bundle.Signer{Key: ecPair(t).private, KeyID: "k", Algorithm: "ES256"}), "there is no key to verify it with"},
		"Garbage": {"Nor can this be read.", with(t, simple(t), func(f map[string]string) { f[".signatures.json"] = "{" }), "cannot be read"},
		"Empty":   {"An empty list of signatures is one that cannot be verified.", with(t, simple(t), func(f map[string]string) { f[".signatures.json"] = "{}" }), "has 0 signatures"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := bundle.Open(tc.archive)
			if err != nil {
				t.Fatal(err)
			}
			check(t, tc.reason, tc.want, b.VerifyUnsigned())
		})
	}
}

func TestSign(t *testing.T) {
	ec, rs := ecPair(t), rsaPair(t, 2048)
	tests := map[string]struct {
		reason string
		signer bundle.Signer
		want   string
	}{
		"HS256":    {"A shared secret.", bundle.Signer{Key: "secret", Algorithm: "HS256"}, `the algorithm "HS256"`},
		"None":     {"No signature.", bundle.Signer{Key: ec.private, Algorithm: "none"}, `the algorithm "none"`},
		"Path":     {"OPA would read the file of that name.", bundle.Signer{Key: "/etc/hostname", Algorithm: "ES256"}, "is not in PEM"},
		"Public":   {"The other half.", bundle.Signer{Key: ec.public, Algorithm: "ES256"}, `is a "PUBLIC KEY"`},
		"OtherKey": {"A key of another kind.", bundle.Signer{Key: rs.private, Algorithm: "ES256"}, "cannot sign with the key as ES256"},
		"Weak":     {"Nobody would accept it.", bundle.Signer{Key: rsaPair(t, 1024).private}, "1024 bits"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := bundle.Sign(simple(t), tc.signer)
			check(t, tc.reason, tc.want, err)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
	t.Run("Again", func(t *testing.T) {
		once := sign(t, simple(t), bundle.Signer{Key: rs.private, KeyID: "k"})
		if twice := sign(t, once, bundle.Signer{Key: rs.private, KeyID: "k"}); !bytes.Equal(once, twice) {
			t.Error("a bundle signed again by the same key is another")
		}
		b, err := bundle.Open(sign(t, once, bundle.Signer{Key: ec.private, KeyID: "e", Algorithm: "ES256"}))
		if err != nil {
			t.Fatal(err)
		}
		if s, err := b.Signature(); err != nil || s.KeyID != "e" {
			t.Errorf("signature %+v, error %v: the last one who signs counts", s, err)
		}
	})
}

func TestFrom(t *testing.T) {
	folder := fstest.MapFS{
		".manifest": {Data: []byte(manifest42)}, "data.json": {Data: []byte(data)},
		"guardrails/exec/policy.rego": {Data: []byte(module)},
	}
	packed, err := bundle.FromFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	inner := simple(t)
	tree := archive(t, entry{name: "./README.md", content: "read me"}, entry{name: "link", content: "/etc", kind: tar.TypeSymlink},
		entry{name: "./dist/b.tar.gz", content: string(inner)},
		entry{name: "policies/.manifest", content: manifest42}, entry{name: "policies/data.json", content: data},
		entry{name: "policies/guardrails/exec/policy.rego", content: module},
		entry{name: "linked/.manifest", content: "/etc/hostname", kind: tar.TypeSymlink})
	tests := map[string]struct {
		reason string
		at     string
		bundle []byte
		want   string
	}{
		"File":    {"The archive itself, byte for byte.", "dist/b.tar.gz", inner, ""},
		"Dots":    {"A path may begin with a dot or a slash.", "./dist/b.tar.gz", inner, ""},
		"Folder":  {"What it makes, packed, is the same wherever it is packed.", "policies", packed, ""},
		"Slash":   {"A folder may end with a slash.", "policies/", packed, ""},
		"Nothing": {"There is no such file.", "polici", nil, `there is nothing at "polici"`},
		"Other":   {"There is no bundle.", "dist", nil, "is no bundle"},
		"Up":      {"No path leads out.", "../dist", nil, "leads out"},
		"Link":    {"Nor does a link.", "linked", nil, "neither a file nor a folder"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := bundle.FromTree(tree, tc.at)
			check(t, tc.reason, tc.want, err)
			if diff := cmp.Diff(tc.bundle, got); diff != "" {
				t.Errorf("%s\nbundle (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	if _, err := bundle.FromFolder(fstest.MapFS{"README": {}}); err == nil {
		t.Error("a folder without manifest is packed as a bundle")
	}
	if _, err := bundle.FromFolder(fstest.MapFS{".manifest": {Data: make([]byte, bundle.MaxContent+1)}}); err == nil {
		t.Error("a folder is packed without limit")
	}
}

// FuzzOpen: whatever comes, what is opened is within the limits, and what verifies is
// what was signed.
func FuzzOpen(f *testing.F) {
	key := ecPair(f)
	signed := sign(f, simple(f), bundle.Signer{Key: key.private, KeyID: "k", Algorithm: "ES256"})
	want, err := bundle.Open(signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(simple(f))
	f.Add(archive(f, entry{name: ".manifest", content: manifest42}, entry{name: "x.rego", content: "package x\n\ndeny contains 1\n"}))
	trusted := trusts("", v1alpha1.BundleKey{ID: "k", Algorithm: "ES256", PublicKey: key.public})
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := bundle.Open(raw)
		if err != nil {
			return
		}
		if _, err := b.Content(); err == nil && len(raw) > bundle.MaxArchive {
			t.Error("an archive beyond the limit was read")
		}
		if _, err := b.Verify(trusted); err != nil {
			return
		}
		got, _ := b.Revision()
		if r, _ := want.Revision(); got != r {
			t.Errorf("revision %v verifies, and %v was signed", got, r)
		}
	})
}
