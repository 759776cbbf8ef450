package examples_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	lua "github.com/yuin/gopher-lua"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

type health struct{ Status, Message string }

// TestArgoCDHealth runs the Lua of the example against the statuses of grants.
func TestArgoCDHealth(t *testing.T) {
	script := healthCheck(t, v1alpha1.AccessGrantKind)

	condition := func(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
	}
	ready := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
	}
	applied := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonApplied, "2 of 2 clusters")
	reconciling := condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing, "1 of 2 clusters")
	stalled := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message)
	}

	for name, tc := range map[string]struct {
		reason     string
		suspend    bool
		deleted    bool
		unseen     bool // the status is about an older generation
		conditions []metav1.Condition
		want       health
	}{
		"New": {
			reason: "A grant that the controller has not seen is on its way.",
			want:   health{"Progressing", "Waiting for Sallyport"},
		},
		"Applied": {
			reason:     "What every member confirmed is healthy.",
			conditions: []metav1.Condition{applied, condition(v1alpha1.ConditionActive, metav1.ConditionTrue, v1alpha1.ReasonActive, "until 2026-02-01")},
			want:       health{"Healthy", "2 of 2 clusters"},
		},
		"Expired": {
			reason: "A grant that ended, and of which no member holds anything, is as Git says.",
			conditions: []metav1.Condition{
				condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonExpired, "ended 2026-02-01"),
				condition(v1alpha1.ConditionActive, metav1.ConditionFalse, v1alpha1.ReasonExpired, "ended 2026-02-01"),
			},
			want: health{"Healthy", "ended 2026-02-01"},
		},
		"OldStatus": {
			reason: "What was healthy before the commit says nothing of the commit.",
			unseen: true, conditions: []metav1.Condition{applied},
			want: health{"Progressing", "Waiting for Sallyport"},
		},
		"Progressing": {
			reason:     "Members have yet to confirm.",
			conditions: []metav1.Condition{ready(v1alpha1.ReasonProgressing, "1 of 2 clusters"), reconciling},
			want:       health{"Progressing", "1 of 2 clusters"},
		},
		"Revoking": {
			reason:     "Members are removing their side.",
			conditions: []metav1.Condition{ready(v1alpha1.ReasonRevoking, "1 cluster has yet to confirm"), reconciling},
			want:       health{"Progressing", "1 cluster has yet to confirm"},
		},
		"ApplyFailed": {
			reason:     "A refused write is a failure also while it is tried again.",
			conditions: []metav1.Condition{ready(v1alpha1.ReasonApplyFailed, "prod-eu-1 refused"), reconciling},
			want:       health{"Degraded", "prod-eu-1 refused"},
		},
		"Rejected": {
			reason:     "Somebody has to change something.",
			conditions: []metav1.Condition{ready(v1alpha1.ReasonRejected, "role unknown"), stalled(v1alpha1.ReasonRejected, "AccessRole pod-reader does not exist")},
			want:       health{"Degraded", "AccessRole pod-reader does not exist"},
		},
		"NoClusters": {
			reason:     "A grant that selects nothing is a mistake.",
			conditions: []metav1.Condition{ready(v1alpha1.ReasonNoClusters, "nothing selected"), stalled(v1alpha1.ReasonNoClusters, "nothing selected")},
			want:       health{"Degraded", "nothing selected"},
		},
		"ResidualAccess": {
			reason:     "Access that may linger must be seen.",
			conditions: []metav1.Condition{ready(v1alpha1.ReasonResidualAccess, "prod-us-1 has not confirmed")},
			want:       health{"Degraded", "prod-us-1 has not confirmed"},
		},
		"Suspended": {
			reason:  "Whatever stands is kept on purpose.",
			suspend: true, conditions: []metav1.Condition{ready(v1alpha1.ReasonSuspended, "suspended")},
			want: health{"Suspended", "Suspended: what stands is kept, changes wait"},
		},
		"Deleted": {
			reason:  "Argo CD waits for a deleted grant to go, whatever its conditions were.",
			deleted: true, conditions: []metav1.Condition{applied},
			want: health{"Progressing", "2 of 2 clusters"},
		},
		"DeletedUnseen": {
			reason:  "Also if the controller never saw it.",
			deleted: true, want: health{"Progressing", "Revoking"},
		},
		"DeletedSuspended": {
			reason:  "Deletion revokes a suspended grant too.",
			deleted: true, suspend: true, want: health{"Progressing", "Revoking"},
		},
		"Refused": {
			reason:     "What a guardrail refuses gives nothing until somebody changes something.",
			conditions: []metav1.Condition{ready(v1alpha1.ReasonRefused, "reads Secrets"), stalled(v1alpha1.ReasonRefused, "reads Secrets")},
			want:       health{"Degraded", "reads Secrets"},
		},
		"UnknownReason": {
			reason:     "A reason of a later version is not healthy by default.",
			conditions: []metav1.Condition{ready("SomethingNew", "told later")},
			want:       health{"Degraded", "told later"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			grant := &v1alpha1.AccessGrant{}
			grant.Generation = 2
			grant.Spec.Suspend = tc.suspend
			grant.Status.Conditions = tc.conditions
			if tc.conditions != nil {
				grant.Status.ObservedGeneration = 2
			}
			if tc.unseen {
				grant.Status.ObservedGeneration = 1
			}
			if tc.deleted {
				grant.DeletionTimestamp = ptr.To(metav1.Now())
			}
			if diff := cmp.Diff(tc.want, healthOf(t, script, grant)); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestArgoCDHealthOfGuardrails: Degraded holds back the waves with roles and grants,
// and what they take away. It is for what refuses whatever it matches.
func TestArgoCDHealthOfGuardrails(t *testing.T) {
	const True, False = metav1.ConditionTrue, metav1.ConditionFalse
	guardrail, bundle, exception := &v1alpha1.Guardrail{}, &v1alpha1.GuardrailBundle{}, &v1alpha1.GuardrailException{}
	standing := &v1alpha1.GuardrailBundle{}
	standing.Status.Active = &v1alpha1.ActiveBundle{Revision: "2"}
	for name, tc := range map[string]struct {
		reason string
		kind   string
		object runtime.Object
		status metav1.ConditionStatus // "" before the controller has seen it
		why    string
		want   string
	}{
		"Guardrail/New": {
			reason: "It is not asked yet.",
			kind:   v1alpha1.GuardrailKind, object: guardrail, want: "Progressing",
		},
		"Guardrail/InForce": {
			reason: "It is asked.",
			kind:   v1alpha1.GuardrailKind, object: guardrail, status: True, why: v1alpha1.ReasonInForce, want: "Healthy",
		},
		"Guardrail/Invalid": {
			reason: "It refuses all that it matches, until somebody mends it.",
			kind:   v1alpha1.GuardrailKind, object: guardrail, status: False, why: v1alpha1.ReasonInvalid, want: "Degraded",
		},
		"Bundle/New": {
			reason: "Its guardrails are not asked yet.",
			kind:   v1alpha1.GuardrailBundleKind, object: bundle, want: "Progressing",
		},
		"Bundle/InForce": {
			reason: "Its guardrails are asked.",
			kind:   v1alpha1.GuardrailBundleKind, object: standing, status: True, why: v1alpha1.ReasonInForce, want: "Healthy",
		},
		"Bundle/NothingInForce": {
			reason: "It refuses all that it matches.",
			kind:   v1alpha1.GuardrailBundleKind, object: bundle, status: False, why: v1alpha1.ReasonFetchFailed, want: "Degraded",
		},
		"Bundle/FetchFailed": {
			reason: "The last good one is asked: a source that is away must not hold up revocations.",
			kind:   v1alpha1.GuardrailBundleKind, object: standing, status: False, why: v1alpha1.ReasonFetchFailed, want: "Healthy",
		},
		"Bundle/VerificationFailed": {
			reason: "Neither must whoever can write to the source, by writing rubbish.",
			kind:   v1alpha1.GuardrailBundleKind, object: standing, status: False, why: v1alpha1.ReasonVerificationFailed, want: "Healthy",
		},
		"Exception/New": {
			reason: "A grant that needs it would be refused.",
			kind:   v1alpha1.GuardrailExceptionKind, object: exception, want: "Progressing",
		},
		"Exception/InForce": {
			reason: "It is honoured.",
			kind:   v1alpha1.GuardrailExceptionKind, object: exception, status: True, why: v1alpha1.ReasonInForce, want: "Healthy",
		},
		"Exception/Expired": {
			reason: "It ended, as Git says.",
			kind:   v1alpha1.GuardrailExceptionKind, object: exception, status: True, why: v1alpha1.ReasonExpired, want: "Healthy",
		},
		"Exception/UnknownGuardrail": {
			reason: "It excuses nobody, which is for the grant to say.",
			kind:   v1alpha1.GuardrailExceptionKind, object: exception, status: False, why: v1alpha1.ReasonUnknownGuardrail, want: "Healthy",
		},
	} {
		for _, observed := range []int64{2, 1} {
			t.Run(fmt.Sprintf("%s/%d", name, observed), func(t *testing.T) {
				object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(tc.object)
				if err != nil {
					t.Fatal(err)
				}
				want := health{tc.want, "as it is"}
				if observed < 2 || tc.status == "" { // what is said of an older generation says nothing
					want = health{"Progressing", "Waiting for Sallyport"}
				}
				u := unstructured.Unstructured{Object: object}
				u.SetGeneration(2)
				conditions := []any{}
				if tc.status != "" {
					conditions = append(conditions, map[string]any{"type": v1alpha1.ConditionReady, "status": string(tc.status), "reason": tc.why, "message": "as it is"})
				}
				for field, value := range map[string]any{"conditions": conditions, "observedGeneration": observed} {
					if err := unstructured.SetNestedField(object, value, "status", field); err != nil {
						t.Fatal(err)
					}
				}
				script := healthCheck(t, tc.kind)
				if diff := cmp.Diff(want, run(t, script, object)); diff != "" {
					t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
				}
			})
		}
	}
}

// healthCheck is the Lua of the example for a kind.
func healthCheck(t *testing.T, kind string) string {
	t.Helper()
	script, found, err := unstructured.NestedString(read(t, "argocd/argocd-cm.yaml").Object, "data", "resource.customizations.health.access.sallyport.dev_"+kind)
	if err != nil || !found {
		t.Fatalf("there is no health check of a %s: %v", kind, err)
	}
	return script
}

func healthOf(t *testing.T, script string, grant *v1alpha1.AccessGrant) health {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(grant)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, script, object)
}

// run a health check as Argo CD does: the object as the global obj, and the libraries
// base, package and table, no others.
func run(t *testing.T, script string, object map[string]any) health {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		t.Fatal(err)
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script returned %s, want a table", state.Get(-1).Type())
	}
	return health{lua.LVAsString(result.RawGetString("status")), lua.LVAsString(result.RawGetString("message"))}
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.NewTable()
		for _, element := range value {
			table.Append(toLua(state, element))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, element := range value {
			table.RawSetString(key, toLua(state, element))
		}
		return table
	default:
		return lua.LNil
	}
}
