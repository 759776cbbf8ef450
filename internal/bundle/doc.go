// Package bundle packs guardrails into OPA bundles, signs and verifies them, and
// makes guardrails of them again.
//
// A bundle is a .tar.gz as OPA defines it, and OPA reads it. What OPA has no place
// for, CEL and ceilings and how a guardrail is asked, is data in it, as Entry says.
// A bundle without such data is any OPA bundle: each package with a set deny is a
// guardrail.
//
// Nothing in a bundle is believed, or even parsed as policy, before it is verified:
// Open only unpacks, within limits, and reads the manifest. A bundle is taken as a
// whole or not at all.
package bundle
