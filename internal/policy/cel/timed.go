package cel

import "github.com/google/cel-go/common/ast"

// timed reports whether an expression looks at input.now, or takes input for
// anything else than one of its fields, so that it may.
func timed(root ast.Expr) bool {
	fields := map[int64]bool{} // of input that are not now
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() == ast.SelectKind && x.AsSelect().FieldName() != "now" {
			fields[x.AsSelect().Operand().ID()] = true
		}
	}))
	found := false
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		found = found || x.Kind() == ast.IdentKind && x.AsIdent() == "input" && !fields[x.ID()]
	}))
	return found
}
