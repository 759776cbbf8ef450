package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// showGrants shows what "kubectl get accessgrants -A" does, from the same table of
// the API server's.
func (w *world) showGrants(ctx context.Context, out *screen) error {
	client, err := kubernetes.NewForConfig(w.fleet.Hub.AdminConfig())
	if err != nil {
		return err
	}
	raw, err := client.RESTClient().Get().
		AbsPath("/apis", v1alpha1.GroupVersion.Group, v1alpha1.GroupVersion.Version, "accessgrants").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").
		Do(ctx).Raw()
	if err != nil {
		return fmt.Errorf("cannot list grants: %w", err)
	}
	var table metav1.Table
	if err := json.Unmarshal(raw, &table); err != nil {
		return fmt.Errorf("cannot read the table of grants: %w", err)
	}
	text, err := render(table)
	if err != nil {
		return err
	}
	out.say("$ kubectl get accessgrants -A")
	out.columns(text)
	return nil
}

// render writes the columns that kubectl shows unless asked for more.
func render(table metav1.Table) (string, error) {
	var text bytes.Buffer
	lines := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	cells := []string{"NAMESPACE"}
	for _, c := range table.ColumnDefinitions {
		if c.Priority == 0 {
			cells = append(cells, strings.ToUpper(c.Name))
		}
	}
	fmt.Fprintln(lines, strings.Join(cells, "\t"))
	for _, row := range table.Rows {
		var object metav1.PartialObjectMetadata
		if err := json.Unmarshal(row.Object.Raw, &object); err != nil {
			return "", err
		}
		cells := []string{object.Namespace}
		for i, c := range table.ColumnDefinitions {
			switch {
			case c.Priority != 0:
			case row.Cells[i] == nil:
				cells = append(cells, "")
			default:
				cells = append(cells, fmt.Sprint(row.Cells[i]))
			}
		}
		fmt.Fprintln(lines, strings.Join(cells, "\t"))
	}
	err := lines.Flush()
	return text.String(), err
}
