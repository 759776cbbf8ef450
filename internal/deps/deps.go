// Package deps holds what is about to be imported.
package deps

import (
	_ "github.com/fluxcd/source-controller/api/v1"
	_ "github.com/google/cel-go/cel"
	_ "github.com/google/cel-go/ext"
	_ "github.com/open-policy-agent/cert-controller/pkg/rotator"
	_ "github.com/open-policy-agent/opa/v1/ast"
	_ "github.com/open-policy-agent/opa/v1/bundle"
	_ "github.com/open-policy-agent/opa/v1/compile"
	_ "github.com/open-policy-agent/opa/v1/cover"
	_ "github.com/open-policy-agent/opa/v1/format"
	_ "github.com/open-policy-agent/opa/v1/rego"
	_ "github.com/open-policy-agent/opa/v1/storage/inmem"
	_ "github.com/open-policy-agent/opa/v1/tester"
	_ "github.com/open-policy-agent/opa/v1/topdown"
	_ "github.com/open-policy-agent/opa/v1/types"
	_ "k8s.io/apiserver/pkg/authorization/cel"
	_ "k8s.io/apiserver/pkg/cel"
	_ "k8s.io/apiserver/pkg/cel/environment"
	_ "k8s.io/apiserver/pkg/cel/library"
	_ "k8s.io/component-helpers/auth/rbac/validation"
	_ "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
)
