package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

var (
	guardrails = v1alpha1.GroupVersion.WithResource("guardrails")
	bundles    = v1alpha1.GroupVersion.WithResource("guardrailbundles")
	exceptions = v1alpha1.GroupVersion.WithResource("guardrailexceptions")
)

const ceilingExample = `
apiVersion: access.sallyport.dev/v1alpha1
kind: Guardrail
metadata: {name: tenants}
spec:
  description: What a tenant may grant.
  enforcement: Deny
  points: [Plan, Admission, Compile]
  match:
    namespaces: {names: ["team-*"], selector: {matchLabels: {tier: tenant}}}
  exceptions: {maxDuration: 24h}
  ceiling:
    rules:
    - {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list, watch]}
    - {nonResourceURLs: [/healthz], verbs: [get]}
    roles: [{kind: ClusterRole, name: view}]
    namespaces: ["team-*"]
    clusters: {names: ["prod-*"], selector: {matchLabels: {env: prod}}}
    subjects: [{kind: Group, name: "team-*"}, {kind: ServiceAccount, namespace: ci}]
    maxDuration: 8h
`

const celExample = `
apiVersion: access.sallyport.dev/v1alpha1
kind: Guardrail
metadata: {name: no-secrets}
spec:
  description: Nobody reads Secrets in prod.
  enforcement: Warn
  points: [Plan, Admission, Compile, Request]
  match:
    namespaces: {names: ["*"]}
    subjects: [{kind: User, name: "*@example.com"}]
    clusters: {selector: {matchLabels: {env: prod}}}
    verbs: [get, list, watch]
  parameters: {kinds: [secrets], nested: {any: true}}
  cel:
    variables:
    - {name: rules, expression: "input.access.map(a, a.rules)"}
    validations:
    - expression: "variables.rules.size() == 0"
      message: Secrets are not read in prod.
      messageExpression: "'Secrets are not read in ' + input.namespace.name"
      field: spec.access
`

const regoExample = `
apiVersion: access.sallyport.dev/v1alpha1
kind: Guardrail
metadata: {name: ticket}
spec:
  rego:
    module: |
      package guardrails.ticket
      deny contains "no ticket" if not contains(input.grant.spec.reason, "PAY-")
`

const exceptionExample = `
apiVersion: access.sallyport.dev/v1alpha1
kind: GuardrailException
metadata: {name: migration, namespace: default}
spec:
  guardrail: library/no-secrets
  grant: oncall
  reason: The migration of November.
  ticket: PAY-1234
  notBefore: "2026-11-01T00:00:00Z"
  notAfter: "2026-11-02T00:00:00Z"
`

const bundleExample = `
apiVersion: access.sallyport.dev/v1alpha1
kind: GuardrailBundle
metadata: {name: library}
spec:
  source: {artifact: {kind: OCIRepository, namespace: flux-system, name: guardrails, path: ./bundle}}
  interval: 5m
  digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  verification:
    keys:
    - id: platform
      algorithm: ES256
      publicKey: |
        -----BEGIN PUBLIC KEY-----
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
        -----END PUBLIC KEY-----
    scope: guardrails
  enforcement: Audit
  points: [Compile]
  match: {namespaces: {names: ["team-*"]}}
  exceptions: {maxDuration: 1h}
`

func testGuardrails(t *testing.T, client dynamic.Interface, kube *kubernetes.Clientset) {
	t.Run("Validation", func(t *testing.T) {
		t.Run("Guardrail", func(t *testing.T) { testGuardrail(t, client) })
		t.Run("Exception", func(t *testing.T) { testException(t, client) })
		t.Run("Bundle", func(t *testing.T) { testBundle(t, client) })
		t.Run("Unknown", func(t *testing.T) { testUnknownFields(t, client) })
		t.Run("Largest", func(t *testing.T) { testLargestGuardrail(t, client) })
	})
	t.Run("Defaults", func(t *testing.T) { testGuardrailDefaults(t, client) })
	t.Run("ServerSideApply", func(t *testing.T) { testGuardrailApply(t, client) })
	t.Run("Status", func(t *testing.T) { testGuardrailStatus(t, client) })
	t.Run("PrinterColumns", func(t *testing.T) { testGuardrailColumns(t, client, kube) })
}

func testGuardrail(t *testing.T, client dynamic.Interface) {
	for name, tc := range map[string]struct {
		example string
		validation
	}{
		"Ceiling": {ceilingExample, validation{reason: "A ceiling with everything that it can have."}},
		"CEL":     {celExample, validation{reason: "A policy in CEL with everything that it can have."}},
		"Rego":    {regoExample, validation{reason: "A policy in Rego needs no more than a module."}},
		"EmptyCeiling": {ceilingExample, validation{
			reason: "A ceiling of nothing is how a namespace is kept from granting.", change: `{spec: {ceiling: {rules: null, roles: null, namespaces: null, clusters: null, subjects: null, maxDuration: null}}}`,
		}},
		"LongDuration": {ceilingExample, validation{reason: "Durations are Go's.", change: `{spec: {ceiling: {maxDuration: 720h30m}}}`}},

		"NoSpec":    {regoExample, validation{reason: "A guardrail says something.", change: `{spec: null}`, want: &refusal{"spec", "Required"}}},
		"NoEngine":  {regoExample, validation{reason: "A guardrail has a policy.", change: `{spec: {rego: null}}`, want: &refusal{"spec", "exactly one of ceiling, cel and rego"}}},
		"TwoEngine": {regoExample, validation{reason: "And one.", change: `{spec: {ceiling: {}}}`, want: &refusal{"spec", "exactly one of ceiling, cel and rego"}}},
		"LongDescription": {regoExample, validation{
			reason: "Free text is bounded.", change: fmt.Sprintf(`{spec: {description: %q}}`, strings.Repeat("a", 1025)), want: &refusal{"spec.description", "1024"},
		}},
		"Enforcement":    {regoExample, validation{reason: "There are three ways to enforce.", change: `{spec: {enforcement: deny}}`, want: &refusal{"spec.enforcement", "supported values"}}},
		"UnknownPoint":   {regoExample, validation{reason: "S16: a guardrail for a point that there is not would never be asked.", change: `{spec: {points: [Later]}}`, want: &refusal{"spec.points[0]", "supported values"}}},
		"NoPoints":       {regoExample, validation{reason: "S16: nor would one for no point.", change: `{spec: {points: []}}`, want: &refusal{"spec.points", "at least 1"}}},
		"DuplicatePoint": {regoExample, validation{reason: "A set has each once.", change: `{spec: {points: [Plan, Plan]}}`, want: &refusal{"spec.points[1]", "Duplicate"}}},
		"ParametersList": {regoExample, validation{reason: "Parameters are an object.", change: `{spec: {parameters: [a]}}`, want: &refusal{"spec.parameters", "object"}}},
		"ParametersText": {regoExample, validation{reason: "And no text.", change: `{spec: {parameters: "a"}}`, want: &refusal{"spec.parameters", "object"}}},

		"CeilingRequest":      {ceilingExample, validation{reason: "A ceiling is not for requests.", change: `{spec: {points: [Plan, Request]}}`, want: &refusal{"spec.points", "not asked about requests"}}},
		"CeilingVerbs":        {ceilingExample, validation{reason: "A ceiling is for namespaces.", change: `{spec: {match: {verbs: [get]}}}`, want: &refusal{"spec.match", "a ceiling is for namespaces"}}},
		"CeilingMatchCluster": {ceilingExample, validation{reason: "And says itself what it allows of clusters.", change: `{spec: {match: {clusters: {names: [a]}}}}`, want: &refusal{"spec.match", "a ceiling is for namespaces"}}},
		"CeilingMatchSubject": {ceilingExample, validation{reason: "And of subjects.", change: `{spec: {match: {subjects: [{kind: User}]}}}`, want: &refusal{"spec.match", "a ceiling is for namespaces"}}},
		"CeilingParameters":   {ceilingExample, validation{reason: "A ceiling has nothing to read them.", change: `{spec: {parameters: {}}}`, want: &refusal{"spec.parameters", "has no parameters"}}},
		"CeilingNoNamespaces": {ceilingExample, validation{reason: "An empty list could be read as every namespace.", change: `{spec: {ceiling: {namespaces: []}}}`, want: &refusal{"spec.ceiling.namespaces", "at least 1"}}},
		"CeilingNoSubjects":   {ceilingExample, validation{reason: "Or as everybody.", change: `{spec: {ceiling: {subjects: []}}}`, want: &refusal{"spec.ceiling.subjects", "at least 1"}}},
		"CeilingNoClusters":   {ceilingExample, validation{reason: "Or as every cluster.", change: `{spec: {ceiling: {clusters: {names: null, selector: null}}}}`, want: &refusal{"spec.ceiling.clusters", "names or selector"}}},
		"CeilingRule":         {ceilingExample, validation{reason: "Rules are those of grants.", change: `{spec: {ceiling: {rules: [{verbs: [get], resources: [pods]}]}}}`, want: &refusal{"spec.ceiling.rules[0].apiGroups", `core group is ""`}}},
		"CeilingRoleKind":     {ceilingExample, validation{reason: "An AccessRole is covered by rules, and not by its name.", change: `{spec: {ceiling: {roles: [{kind: AccessRole, name: a}]}}}`, want: &refusal{"spec.ceiling.roles[0].kind", "covered by rules"}}},
		"CeilingRoleName":     {ceilingExample, validation{reason: "A pattern is not empty.", change: `{spec: {ceiling: {roles: [{kind: Role, name: ""}]}}}`, want: &refusal{"spec.ceiling.roles[0].name", "at least 1"}}},
		"SubjectNamespace":    {ceilingExample, validation{reason: "Only a ServiceAccount has a namespace.", change: `{spec: {ceiling: {subjects: [{kind: User, namespace: a}]}}}`, want: &refusal{"spec.ceiling.subjects[0].namespace", "only a ServiceAccount"}}},
		"ZeroDuration":        {ceilingExample, validation{reason: "A longest time is longer than none.", change: `{spec: {ceiling: {maxDuration: 0s}}}`, want: &refusal{"spec.ceiling.maxDuration", "must be positive"}}},
		"NegativeDuration":    {ceilingExample, validation{reason: "And not negative.", change: `{spec: {ceiling: {maxDuration: -1h}}}`, want: &refusal{"spec.ceiling.maxDuration", "should match"}}},
		"NoDuration":          {ceilingExample, validation{reason: "And a duration.", change: `{spec: {ceiling: {maxDuration: soon}}}`, want: &refusal{"spec.ceiling.maxDuration", "duration"}}},
		"DurationInDays":      {ceilingExample, validation{reason: "The API server reads days, and Go does not: a controller could then read no guardrail at all.", change: `{spec: {ceiling: {maxDuration: 1d}}}`, want: &refusal{"spec.ceiling.maxDuration", "should match"}}},
		"DurationInWords":     {ceilingExample, validation{reason: "Nor does it read words.", change: `{spec: {exceptions: {maxDuration: 2 hours}}}`, want: &refusal{"spec.exceptions.maxDuration", "should match"}}},
		"DurationOverflow":    {ceilingExample, validation{reason: "Nor three centuries.", change: `{spec: {ceiling: {maxDuration: 9999999h}}}`, want: &refusal{"spec.ceiling.maxDuration", ""}}},

		"ExceptionsZero":     {regoExample, validation{reason: "No exceptions are said by leaving it out.", change: `{spec: {exceptions: {maxDuration: 0s}}}`, want: &refusal{"spec.exceptions.maxDuration", "must be positive"}}},
		"ExceptionsNegative": {regoExample, validation{reason: "And not by less.", change: `{spec: {exceptions: {maxDuration: -1s}}}`, want: &refusal{"spec.exceptions.maxDuration", "should match"}}},
		"ExceptionsEndless":  {regoExample, validation{reason: "Exceptions are bounded.", change: `{spec: {exceptions: {}}}`, want: &refusal{"spec.exceptions.maxDuration", "Required"}}},

		"MatchNamespaces":  {regoExample, validation{reason: "A match that says nothing is a mistake.", change: `{spec: {match: {namespaces: {}}}}`, want: &refusal{"spec.match.namespaces", "names or selector"}}},
		"MatchNames":       {regoExample, validation{reason: "So is an empty list.", change: `{spec: {match: {namespaces: {names: []}}}}`, want: &refusal{"spec.match.namespaces.names", "at least 1"}}},
		"MatchEmptyName":   {regoExample, validation{reason: "And an empty pattern.", change: `{spec: {match: {namespaces: {names: [""]}}}}`, want: &refusal{"spec.match.namespaces.names[0]", "at least 1"}}},
		"MatchClusters":    {regoExample, validation{reason: "Of clusters as of namespaces.", change: `{spec: {match: {clusters: {}}}}`, want: &refusal{"spec.match.clusters", "names or selector"}}},
		"MatchSubjects":    {regoExample, validation{reason: "An empty list would match nobody.", change: `{spec: {match: {subjects: []}}}`, want: &refusal{"spec.match.subjects", "at least 1"}}},
		"MatchSubjectKind": {regoExample, validation{reason: "Kinds are those of RBAC.", change: `{spec: {match: {subjects: [{kind: Robot}]}}}`, want: &refusal{"spec.match.subjects[0].kind", "supported values"}}},
		"MatchGroup":       {regoExample, validation{reason: "A group has no namespace.", change: `{spec: {match: {subjects: [{kind: Group, namespace: a}]}}}`, want: &refusal{"spec.match.subjects[0].namespace", "only a ServiceAccount"}}},
		"MatchVerbs":       {regoExample, validation{reason: "An empty list would match no verb.", change: `{spec: {match: {verbs: []}}}`, want: &refusal{"spec.match.verbs", "at least 1"}}},

		"NoModule":         {regoExample, validation{reason: "A module has a text.", change: `{spec: {rego: {module: ""}}}`, want: &refusal{"spec.rego.module", "at least 1"}}},
		"LongModule":       {regoExample, validation{reason: "And a bounded one.", change: fmt.Sprintf(`{spec: {rego: {module: %q}}}`, strings.Repeat("a", 65537)), want: &refusal{"spec.rego.module", "65536"}}},
		"NoValidations":    {celExample, validation{reason: "A policy that validates nothing is a mistake.", change: `{spec: {cel: {validations: null}}}`, want: &refusal{"spec.cel.validations", "Required"}}},
		"EmptyValidations": {celExample, validation{reason: "So is an empty list.", change: `{spec: {cel: {validations: []}}}`, want: &refusal{"spec.cel.validations", "at least 1"}}},
		"EmptyExpression":  {celExample, validation{reason: "An expression has a text.", change: `{spec: {cel: {validations: [{expression: ""}]}}}`, want: &refusal{"spec.cel.validations[0].expression", "at least 1"}}},
		"VariableName":     {celExample, validation{reason: "A variable is read as variables.NAME.", change: `{spec: {cel: {variables: [{name: a-b, expression: "1"}]}}}`, want: &refusal{"spec.cel.variables[0].name", "should match"}}},
		"VariableTwice": {celExample, validation{
			reason: "A name is one variable's.", change: `{spec: {cel: {variables: [{name: a, expression: "1"}, {name: a, expression: "2"}]}}}`, want: &refusal{"spec.cel.variables[1]", "Duplicate"},
		}},
	} {
		t.Run(name, func(t *testing.T) { testValidation(t, client.Resource(guardrails), tc.example, tc.validation) })
	}
}

func testException(t *testing.T, client dynamic.Interface) {
	for name, tc := range map[string]validation{
		"Example":          {reason: "An exception from a guardrail of a bundle."},
		"Guardrail":        {reason: "An exception from a Guardrail.", change: `{spec: {guardrail: no-secrets}}`},
		"NoGuardrail":      {reason: "An exception is from something.", change: `{spec: {guardrail: null}}`, want: &refusal{"spec.guardrail", "Required"}},
		"EmptyGuardrail":   {reason: "An empty name is none.", change: `{spec: {guardrail: ""}}`, want: &refusal{"spec.guardrail", "at least 1"}},
		"StarGuardrail":    {reason: "S24: there is no exception from everything.", change: `{spec: {guardrail: "library/*"}}`, want: &refusal{"spec.guardrail", "no pattern"}},
		"NoGrant":          {reason: "An exception is for something.", change: `{spec: {grant: null}}`, want: &refusal{"spec.grant", "Required"}},
		"StarGrant":        {reason: "S24: there is no exception for everything.", change: `{spec: {grant: "*"}}`, want: &refusal{"spec.grant", "one AccessGrant in the namespace"}},
		"GrantElsewhere":   {reason: "S24: an exception is for its own namespace.", change: `{spec: {grant: "other/oncall"}}`, want: &refusal{"spec.grant", "one AccessGrant in the namespace"}},
		"NoReason":         {reason: "An exception without a reason cannot be reviewed.", change: `{spec: {reason: null}}`, want: &refusal{"spec.reason", "Required"}},
		"BlankReason":      {reason: "Nor is a blank one a reason.", change: `{spec: {reason: " "}}`, want: &refusal{"spec.reason", "must say why"}},
		"NoTicket":         {reason: "An exception is agreed somewhere.", change: `{spec: {ticket: null}}`, want: &refusal{"spec.ticket", "Required"}},
		"BlankTicket":      {reason: "A blank ticket is none.", change: `{spec: {ticket: " "}}`, want: &refusal{"spec.ticket", "must name the ticket"}},
		"NoEnd":            {reason: "An exception ends.", change: `{spec: {notAfter: null}}`, want: &refusal{"spec.notAfter", "Required"}},
		"NoBeginning":      {reason: "And begins, so that its length is known.", change: `{spec: {notBefore: null}}`, want: &refusal{"spec.notBefore", "Required"}},
		"EndsBeforeItself": {reason: "It ends after it begins.", change: `{spec: {notAfter: "2026-10-31T00:00:00Z"}}`, want: &refusal{"spec.notAfter", "later than notBefore"}},
		"Empty":            {reason: "And not at once.", change: `{spec: {notAfter: "2026-11-01T00:00:00Z"}}`, want: &refusal{"spec.notAfter", "later than notBefore"}},
		"SameInstant":      {reason: "Instants are compared, not their text.", change: `{spec: {notAfter: "2026-11-01T01:00:00+01:00"}}`, want: &refusal{"spec.notAfter", "later than notBefore"}},
		"BadInstant":       {reason: "An instant is RFC 3339.", change: `{spec: {notAfter: tomorrow}}`, want: &refusal{"spec.notAfter", "date-time"}},
	} {
		t.Run(name, func(t *testing.T) {
			testValidation(t, client.Resource(exceptions).Namespace("default"), exceptionExample, tc)
		})
	}
}

func testBundle(t *testing.T, client dynamic.Interface) {
	const key = `{spec: {verification: {keys: [{id: a, publicKey: %q}]}}}`
	for name, tc := range map[string]validation{
		"Example":   {reason: "A bundle with everything that it can have."},
		"Directory": {reason: "A bundle from a directory.", change: `{spec: {source: {artifact: null, directory: {path: /bundles/library}}}}`},
		"ConfigMap": {reason: "A bundle from a ConfigMap.", change: `{spec: {source: {artifact: null, configMap: {namespace: sallyport-system, name: library}}}}`},
		"Unsigned":  {reason: "S25: unsigned, if that is said.", change: `{spec: {verification: null, unsigned: Allowed}}`},
		"Refused":   {reason: "Saying that it is not costs nothing.", change: `{spec: {unsigned: Refused}}`},

		"NoSource":       {reason: "A bundle comes from somewhere.", change: `{spec: {source: null}}`, want: &refusal{"spec.source", "Required"}},
		"EmptySource":    {reason: "An empty source is none.", change: `{spec: {source: {artifact: null}}}`, want: &refusal{"spec.source", "exactly one of artifact, configMap and directory"}},
		"TwoSources":     {reason: "And from one place.", change: `{spec: {source: {directory: {path: /a}}}}`, want: &refusal{"spec.source", "exactly one of artifact, configMap and directory"}},
		"SourceKind":     {reason: "Of Flux there are three kinds.", change: `{spec: {source: {artifact: {kind: HelmChart}}}}`, want: &refusal{"spec.source.artifact.kind", "supported values"}},
		"NoVerification": {reason: "S25: unsigned is refused unless that is said.", change: `{spec: {verification: null}}`, want: &refusal{"spec", "must have verification, or say unsigned: Allowed"}},
		"UnsignedRefused": {
			reason: "S25: saying the opposite is not saying it.", change: `{spec: {verification: null, unsigned: Refused}}`, want: &refusal{"spec", "must have verification"},
		},
		"Both":          {reason: "S25: keys that do not matter would deceive.", change: `{spec: {unsigned: Allowed}}`, want: &refusal{"spec", "must have verification"}},
		"UnsignedWord":  {reason: "It is said in one word.", change: `{spec: {verification: null, unsigned: "yes"}}`, want: &refusal{"spec.unsigned", "supported values"}},
		"NoKeys":        {reason: "S25: verification with no key verifies nothing.", change: `{spec: {verification: {keys: []}}}`, want: &refusal{"spec.verification.keys", "at least 1"}},
		"PrivateKey":    {reason: "A private key does not belong here.", change: fmt.Sprintf(key, "-----BEGIN PRIVATE KEY-----\nPUBLIC KEY"), want: &refusal{"spec.verification.keys[0].publicKey", "never a private one"}},
		"RSAPrivateKey": {reason: "In no form.", change: fmt.Sprintf(key, "-----BEGIN RSA PRIVATE KEY-----\nMII"), want: &refusal{"spec.verification.keys[0].publicKey", "never a private one"}},
		"NoPEM":         {reason: "A key is PEM.", change: fmt.Sprintf(key, "hunter2"), want: &refusal{"spec.verification.keys[0].publicKey", "public key in PEM"}},
		"Secret":        {reason: "S25: a shared secret signs as well as it verifies.", change: `{spec: {verification: {keys: [{id: a, algorithm: HS256, publicKey: "PUBLIC KEY"}]}}}`, want: &refusal{"spec.verification.keys[0].algorithm", "supported values"}},
		"DuplicateKey": {
			reason: "An id is one key's.", change: `{spec: {verification: {keys: [{id: a, publicKey: "PUBLIC KEY"}, {id: a, publicKey: "PUBLIC KEY 2"}]}}}`,
			want: &refusal{"spec.verification.keys[1]", "Duplicate"},
		},
		"Digest":        {reason: "S25: sha256, in full.", change: `{spec: {digest: "sha1:0123"}}`, want: &refusal{"spec.digest", "should match"}},
		"ShortInterval": {reason: "A source is not asked all the time.", change: `{spec: {interval: 10ms}}`, want: &refusal{"spec.interval", "a second or more"}},
		"IntervalDays":  {reason: "In Go's units.", change: `{spec: {interval: 1d}}`, want: &refusal{"spec.interval", "should match"}},
		"Interval":      {reason: "An interval is a duration.", change: `{spec: {interval: often}}`, want: &refusal{"spec.interval", "duration"}},
		"ExceptionTerm": {reason: "As for a Guardrail.", change: `{spec: {exceptions: {maxDuration: 0s}}}`, want: &refusal{"spec.exceptions.maxDuration", "must be positive"}},
		"LongName":      {reason: "The name begins those of its guardrails.", change: fmt.Sprintf(`{metadata: {name: %s}}`, strings.Repeat("a", 64)), want: &refusal{"<nil>", "63 characters or fewer"}},
	} {
		t.Run(name, func(t *testing.T) { testValidation(t, client.Resource(bundles), bundleExample, tc) })
	}
}

// testUnknownFields: what is misspelled is told, wherever it stands.
func testUnknownFields(t *testing.T, client dynamic.Interface) {
	for name, tc := range map[string]struct {
		api             dynamic.ResourceInterface
		example, change string
		field           string
	}{
		"Ceiling":   {client.Resource(guardrails), ceilingExample, `{spec: {ceiling: {rule: []}}}`, "spec.ceiling.rule"},
		"CEL":       {client.Resource(guardrails), celExample, `{spec: {cel: {matchConditions: []}}}`, "spec.cel.matchConditions"},
		"Rego":      {client.Resource(guardrails), regoExample, `{spec: {rego: {query: a}}}`, "spec.rego.query"},
		"Match":     {client.Resource(guardrails), regoExample, `{spec: {match: {namespace: {}}}}`, "spec.match.namespace"},
		"Exception": {client.Resource(exceptions).Namespace("default"), exceptionExample, `{spec: {namespace: a}}`, "spec.namespace"},
		"Bundle":    {client.Resource(bundles), bundleExample, `{spec: {verify: {}}}`, "spec.verify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tc.api.Create(t.Context(), merged(t, tc.example, tc.change), metav1.CreateOptions{
				DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
			})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("unknown field %q", tc.field)) {
				t.Errorf("got %v, want that %s is unknown", err, tc.field)
			}
		})
	}
}

// testLargestGuardrail: as for grants, the limits on lengths keep the CEL rules
// within the API server's budget.
func testLargestGuardrail(t *testing.T, client dynamic.Interface) {
	t.Parallel()
	many := func(n int, item func(i int) any) (out []any) {
		for i := range n {
			out = append(out, item(i))
		}
		return out
	}
	long := func(i int) any { return fmt.Sprintf("%03d%s", i, strings.Repeat("x", 60)) }
	ceiling := merged(t, ceilingExample, "")
	for path, value := range map[string][]any{
		"rules": many(256, func(int) any {
			return map[string]any{"apiGroups": many(8, long), "resources": many(16, long), "verbs": many(8, func(i int) any { return fmt.Sprintf("verb%d", i) })}
		}),
		"roles":      many(64, func(i int) any { return map[string]any{"kind": "Role", "name": long(i)} }),
		"namespaces": many(256, long),
		"subjects": many(256, func(i int) any {
			return map[string]any{"kind": "ServiceAccount", "namespace": long(i), "name": long(i)}
		}),
	} {
		if err := unstructured.SetNestedSlice(ceiling.Object, value, "spec", "ceiling", path); err != nil {
			t.Fatal(err)
		}
	}
	cel := merged(t, celExample, "")
	expression := "true" + strings.Repeat(" ", 4092)
	for path, value := range map[string][]any{
		"variables":   many(32, func(i int) any { return map[string]any{"name": fmt.Sprintf("v%d", i), "expression": expression} }),
		"validations": many(32, func(int) any { return map[string]any{"expression": expression, "messageExpression": expression} }),
	} {
		if err := unstructured.SetNestedSlice(cel.Object, value, "spec", "cel", path); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []*unstructured.Unstructured{ceiling, cel} {
		if _, err := client.Resource(guardrails).Create(t.Context(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			t.Errorf("%s: %v", o.GetName(), err)
		}
	}
}

func testGuardrailDefaults(t *testing.T, client dynamic.Interface) {
	for name, tc := range map[string]struct {
		api             dynamic.ResourceInterface
		example, change string
		want            string
	}{
		"Guardrail": {client.Resource(guardrails), regoExample, `{spec: {rego: {module: package a}}}`, `{enforcement: Deny, rego: {module: package a}}`},
		"Bundle": {
			client.Resource(bundles), bundleExample, `{spec: {source: {artifact: null, configMap: {namespace: a, name: b}}, interval: null, digest: null, enforcement: null, points: null, match: null, exceptions: null, verification: {scope: null, keys: [{id: a, publicKey: PUBLIC KEY}]}}}`,
			`{source: {configMap: {namespace: a, name: b, key: bundle.tar.gz}}, interval: 1m, enforcement: Deny, verification: {keys: [{id: a, publicKey: PUBLIC KEY, algorithm: RS256}]}}`,
		},
	} {
		created, err := tc.api.Create(t.Context(), merged(t, tc.example, tc.change), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		if err := yaml.Unmarshal([]byte(tc.want), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, created.Object["spec"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// testGuardrailApply: two who apply each own what they said, and what is a whole
// is replaced as one.
func testGuardrailApply(t *testing.T, client dynamic.Interface) {
	api := client.Resource(guardrails)
	apply := func(by, spec string) map[string]any {
		t.Helper()
		o := merged(t, "{apiVersion: access.sallyport.dev/v1alpha1, kind: Guardrail, metadata: {name: applied}}", "{spec: "+spec+"}")
		applied, err := api.Apply(t.Context(), "applied", o, metav1.ApplyOptions{FieldManager: by})
		if err != nil {
			t.Fatal(err)
		}
		out, _, _ := unstructured.NestedMap(applied.Object, "spec")
		return out
	}
	apply("platform", `{points: [Plan], match: {verbs: [get], subjects: [{kind: User}], namespaces: {names: [a]}}, cel: {variables: [{name: a, expression: "1"}], validations: [{expression: "true"}]}}`)
	apply("other", `{points: [Compile], match: {verbs: [list], namespaces: {names: [b]}}, cel: {variables: [{name: b, expression: "2"}], validations: [{expression: "true"}]}}`)
	got := apply("platform", `{points: [Plan], match: {verbs: [get], subjects: [{kind: Group, name: b}], namespaces: {names: [a]}}, cel: {variables: [{name: a, expression: "3"}], validations: [{expression: "true"}]}}`)
	var want map[string]any
	if err := yaml.Unmarshal([]byte(`{enforcement: Deny, points: [Plan, Compile], match: {verbs: [get, list], subjects: [{kind: Group, name: b}], namespaces: {names: [a, b]}},
		cel: {variables: [{name: a, expression: "3"}, {name: b, expression: "2"}], validations: [{expression: "true"}]}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	for name, resource := range map[string]dynamic.ResourceInterface{
		bundleExample: client.Resource(bundles), exceptionExample: client.Resource(exceptions).Namespace("default"), ceilingExample: api,
	} {
		for range 2 {
			o := merged(t, name, "{metadata: {name: applied-whole}}")
			applied, err := resource.Apply(t.Context(), "applied-whole", o, metav1.ApplyOptions{FieldManager: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(o.Object["spec"], applied.Object["spec"]); diff != "" {
				t.Errorf("%s: applied and kept differ (-applied +kept):\n%s", o.GetKind(), diff)
			}
		}
	}
}

// testGuardrailStatus: S25 in part. The status is written through its subresource
// only, and the spec not through it.
func testGuardrailStatus(t *testing.T, client dynamic.Interface) {
	for example, api := range map[string]dynamic.ResourceInterface{
		regoExample: client.Resource(guardrails), bundleExample: client.Resource(bundles), exceptionExample: client.Resource(exceptions).Namespace("default"),
	} {
		o := merged(t, example, `{metadata: {name: status}, status: {observedGeneration: 7}}`)
		created, err := api.Create(t.Context(), o, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if status := fmt.Sprint(created.Object["status"]); status != "map[observedGeneration:-1]" {
			t.Errorf("%s: status was taken from a create, or has no default: %s", o.GetKind(), status)
		}
		created.Object["status"] = map[string]any{"observedGeneration": int64(1)}
		kept := created.Object["spec"]
		created.Object["spec"] = map[string]any{}
		updated, err := api.UpdateStatus(t.Context(), created, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(kept, updated.Object["spec"]); diff != "" {
			t.Errorf("%s: the spec was changed through the status:\n%s", o.GetKind(), diff)
		}
		if observed, _, _ := unstructured.NestedInt64(updated.Object, "status", "observedGeneration"); observed != 1 {
			t.Errorf("%s: observedGeneration is %d, want 1", o.GetKind(), observed)
		}
	}
}

func testGuardrailColumns(t *testing.T, client dynamic.Interface, kube *kubernetes.Clientset) {
	const now = "2026-11-23T09:00:00Z"
	conditions := func(types ...string) (out []any) {
		for _, typ := range types {
			out = append(out, map[string]any{"type": typ, "status": "True", "reason": "Well", "message": "all is well", "lastTransitionTime": now})
		}
		return out
	}
	for _, tc := range []struct {
		resource        schema.GroupVersionResource
		namespace       string
		example, change string
		status, want    map[string]any
	}{
		{
			guardrails, "", celExample, "", map[string]any{"conditions": conditions("Ready")},
			map[string]any{
				"Enforcement": "Warn", "Points": `["Plan","Admission","Compile","Request"]`, "Ready": "True", "Status": "all is well", "Description": "Nobody reads Secrets in prod.",
			},
		},
		{
			bundles, "", bundleExample, "",
			map[string]any{"conditions": conditions("Ready"), "active": map[string]any{"revision": "7", "digest": "sha256:ab", "since": now}},
			map[string]any{"Ready": "True", "Revision": "7", "Digest": "sha256:ab", "Status": "all is well"},
		},
		{
			exceptions, "default", exceptionExample, "", map[string]any{"conditions": conditions("Ready", "Active")},
			map[string]any{
				"Guardrail": "library/no-secrets", "Grant": "oncall", "Active": "Well", "Until": "2026-11-02T00:00:00Z", "Ticket": "PAY-1234", "Status": "all is well",
			},
		},
	} {
		o := merged(t, tc.example, `{metadata: {name: columns}}`)
		var api dynamic.ResourceInterface = client.Resource(tc.resource)
		path := "/apis/access.sallyport.dev/v1alpha1/"
		if tc.namespace != "" {
			api, path = client.Resource(tc.resource).Namespace(tc.namespace), path+"namespaces/"+tc.namespace+"/"
		}
		if _, err := api.Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		patch, err := json.Marshal(map[string]any{"status": tc.status})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.Patch(t.Context(), "columns", "application/merge-patch+json", patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		tc.want["Name"] = "columns"
		if diff := cmp.Diff(tc.want, columns(t, kube, path+tc.resource.Resource+"/columns")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.resource.Resource, diff)
		}
	}
}
