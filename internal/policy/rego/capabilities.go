package rego

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowed are the built-in functions that policies may call. The list is of names
// that somebody has looked at: what another version of OPA adds is refused until
// somebody looks. What is in it is a function of its arguments alone, with one
// exception that is on purpose: the time functions read the zones of the machine.
var allowed = names(`
	eq equal neq gt gte lt lte assign internal.member_2 internal.member_3
	plus minus mul div rem abs ceil floor round numbers.range
	bits.and bits.lsh bits.negate bits.or bits.rsh bits.xor
	and or union intersection
	count sum product max min sort
	array.concat array.flatten array.reverse array.slice
	object.filter object.get object.keys object.remove object.subset object.union object.union_n
	json.filter json.remove walk graph.reachable
	is_array is_boolean is_null is_number is_object is_set is_string type_name to_number
	concat contains endswith format_int indexof indexof_n lower replace split sprintf startswith
	strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse strings.split_n
	substring trim trim_left trim_prefix trim_right trim_space trim_suffix upper
	regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace regex.split
	glob.match glob.quote_meta
	semver.compare semver.is_valid units.parse units.parse_bytes uuid.parse
	json.is_valid json.marshal json.unmarshal
	base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad
	hex.decode hex.encode urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object
	uri.is_valid uri.parse
	net.cidr_contains net.cidr_intersects net.cidr_is_valid
	time.add_date time.clock time.date time.diff time.format time.parse_duration_ns time.parse_ns
	time.parse_rfc3339_ns time.weekday
	crypto.md5 crypto.sha1 crypto.sha256
	print internal.print
`)

// refused are the other built-in functions of this version of OPA, by why they are
// refused. A test keeps the two lists complete, so that a new version of OPA asks
// for a decision.
var refused = reasons(map[string]string{
	"reaches the network":                              `http.send net.lookup_ip_addr`,
	"may fetch a schema from the network, and is dear": `json.match_schema json.verify_schema`,
	"reads the clock; the instant is input.now":        `time.now_ns`,
	"is not the same for the same input":               `rand.intn uuid.rfc4122`,
	"reads the process":                                `opa.runtime`,
	"is about the evaluation, not the input":           `trace rego.metadata.chain rego.metadata.rule rego.parse_module internal.test_case`,
	"reads the clock, or keys that have no place in a policy": `io.jwt.decode io.jwt.decode_verify io.jwt.encode_sign io.jwt.encode_sign_raw
		io.jwt.verify_eddsa io.jwt.verify_es256 io.jwt.verify_es384 io.jwt.verify_es512 io.jwt.verify_hs256 io.jwt.verify_hs384
		io.jwt.verify_hs512 io.jwt.verify_ps256 io.jwt.verify_ps384 io.jwt.verify_ps512 io.jwt.verify_rs256 io.jwt.verify_rs384
		io.jwt.verify_rs512 crypto.x509.parse_and_verify_certificates crypto.x509.parse_and_verify_certificates_with_options
		crypto.x509.parse_certificate_request crypto.x509.parse_certificates crypto.x509.parse_keypair
		crypto.x509.parse_rsa_private_key crypto.parse_private_keys crypto.hmac.equal crypto.hmac.md5 crypto.hmac.sha1
		crypto.hmac.sha256 crypto.hmac.sha512 providers.aws.sign_req`,
	"makes much of little, and no deadline cuts it": `graph.reachable_paths internal.template_string json.marshal_with_options json.patch
		net.cidr_contains_matches net.cidr_expand net.cidr_merge numbers.range_step regex.globs_match regex.template_match
		strings.render_template yaml.is_valid yaml.marshal yaml.unmarshal`,
	"is of a language that no input is in": `graphql.is_valid graphql.parse graphql.parse_and_verify graphql.parse_query graphql.parse_schema
		graphql.schema_is_valid`,
	"is deprecated": `all any cast_array cast_boolean cast_null cast_object cast_set cast_string net.cidr_overlap re_match set_diff`,
})

func names(list string) map[string]bool {
	out := map[string]bool{}
	for _, name := range strings.Fields(list) {
		out[name] = true
	}
	return out
}

func reasons(lists map[string]string) map[string]string {
	out := map[string]string{}
	for reason, list := range lists {
		for name := range names(list) {
			out[name] = reason
		}
	}
	return out
}

// Capabilities of policies, as opa takes them: Rego v1, the built-in functions that
// are allowed, and no host. They are not to be changed.
func Capabilities() *ast.Capabilities { return capabilities() }

var capabilities = sync.OnceValue(func() *ast.Capabilities {
	c := &ast.Capabilities{Features: []string{ast.FeatureRegoV1}, AllowNet: []string{}}
	for _, b := range ast.Builtins {
		if allowed[b.Name] {
			c.Builtins = append(c.Builtins, b)
		}
	}
	slices.SortFunc(c.Builtins, func(a, b *ast.Builtin) int { return strings.Compare(a.Name, b.Name) })
	return c
})
