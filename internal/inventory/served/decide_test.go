package served

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestDecide(t *testing.T) {
	things := Kind{GVK: schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Thing"}, OtherVersions: []string{"v1beta1"}, Resource: "things"}
	v1, v1beta1 := schema.GroupVersion{Group: "example.com", Version: "v1"}, schema.GroupVersion{Group: "example.com", Version: "v1beta1"}
	has := answer{resources: map[string]bool{"things": true}}
	other := answer{resources: map[string]bool{"others": true}}
	no := answer{}
	down := answer{failed: errors.New("503")}

	cases := map[string]struct {
		reason     string
		v1, older  answer
		inUse      schema.GroupVersion
		defined    bool
		aggregated string
		want       verdict // doubt: a part of it
	}{
		"Served":       {reason: "What discovery lists is served.", v1: has, older: no, defined: true, want: verdict{served: v1}},
		"OlderOnly":    {reason: "Another version will do.", v1: no, older: has, defined: true, want: verdict{served: v1beta1}},
		"Both":         {reason: "The preferred one is read.", v1: has, older: has, defined: true, want: verdict{served: v1}},
		"KeepsInUse":   {reason: "A version in use is kept, or an upgrade of a CRD would relist everything.", v1: has, older: has, inUse: v1beta1, defined: true, want: verdict{served: v1beta1}},
		"InUseDropped": {reason: "When it is dropped the other is read.", v1: has, older: no, inUse: v1beta1, defined: true, want: verdict{served: v1}},

		"Absent":            {reason: "No definition, no APIService, and an answer: there is no such kind.", v1: no, older: no, want: verdict{absent: true}},
		"AbsentWasInUse":    {reason: "The same for one that was there: its objects were deleted with it.", v1: no, older: no, inUse: v1, want: verdict{absent: true}},
		"GroupWithoutIt":    {reason: "Other kinds of the group do not make it exist.", v1: other, older: no, want: verdict{absent: true}},
		"AggregatedWithout": {reason: "An aggregated server that answers and has no such kind has none.", v1: other, older: no, aggregated: "v1.example.com", want: verdict{absent: true}},

		"Defined":         {reason: "Defined and not served yet: there may be objects.", v1: no, older: no, defined: true, want: verdict{doubt: "v1 or v1beta1 is not served"}},
		"DefinedInUse":    {reason: "The same when it was in use; say the CRD serves only v2 now.", v1: other, older: no, inUse: v1, defined: true, want: verdict{doubt: "is not served"}},
		"AggregatedMute":  {reason: "An aggregated API that answers 404 as a whole is starting.", v1: no, older: no, aggregated: "v1.example.com", want: verdict{doubt: `APIService "v1.example.com"`}},
		"Down":            {reason: "No answer is no absence.", v1: down, older: no, want: verdict{doubt: "503"}},
		"OlderDown":       {reason: "Nor in part.", v1: no, older: down, want: verdict{doubt: "503"}},
		"DownInUse":       {reason: "What is in use is kept while it does not answer.", v1: down, older: has, inUse: v1, want: verdict{doubt: "503"}},
		"DownOther":       {reason: "What is not in use may be down.", v1: down, older: has, inUse: v1beta1, want: verdict{served: v1beta1}},
		"DownPreferred":   {reason: "Nor is it waited for.", v1: down, older: has, want: verdict{served: v1beta1}},
		"EverythingDown":  {reason: "A hub that answers nothing proves nothing.", v1: down, older: down, inUse: v1, want: verdict{doubt: "503"}},
		"DownAndNotCRD":   {reason: "Not even where nothing defines it.", v1: down, older: down, want: verdict{doubt: "503"}},
		"DefinedAndOther": {reason: "A definition outweighs the rest of its group.", v1: other, older: other, defined: true, want: verdict{doubt: "is not served"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := decide(things, tc.inUse, facts{answers: []answer{tc.v1, tc.older}, defined: tc.defined, aggregated: tc.aggregated})
			if got.served != tc.want.served || got.absent != tc.want.absent || (got.doubt == "") != (tc.want.doubt == "") || !strings.Contains(got.doubt, tc.want.doubt) {
				t.Errorf("%s\ngot %+v, want %+v", tc.reason, got, tc.want)
			}
		})
	}
}
