package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// InstallCRDs creates or updates the CustomResourceDefinitions in the given YAML files, or in the .yaml files of the
// given folders, and returns when all are served. Files may hold several documents; other kinds are skipped.
func (c *ControlPlane) InstallCRDs(ctx context.Context, paths ...string) error {
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, path := range paths {
		found, err := readCRDs(path)
		if err != nil {
			return fmt.Errorf("cannot read CRDs from %q: %w", path, err)
		}
		crds = append(crds, found...)
	}
	return c.InstallCRDObjects(ctx, crds...)
}

// InstallCRDObjects creates or updates the CustomResourceDefinitions and returns when all are served. It waits for one
// that is being deleted to be gone: what an update would bring to it goes with it.
func (c *ControlPlane) InstallCRDObjects(ctx context.Context, crds ...*apiextensionsv1.CustomResourceDefinition) error {
	client, err := apiextensions.NewForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	api := client.CustomResourceDefinitions()
	for _, crd := range crds {
		if err := applyCRD(ctx, api, crd); err != nil {
			return fmt.Errorf("cannot install CRD %q on %q: %w", crd.Name, c.Name, err)
		}
	}
	for _, crd := range crds {
		err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			live, err := api.Get(ctx, crd.Name, metav1.GetOptions{})
			return err == nil && established(live), err
		})
		if err != nil {
			return fmt.Errorf("cannot install CRD %q on %q: not established: %w", crd.Name, c.Name, err)
		}
	}
	return nil
}

func applyCRD(ctx context.Context, api apiextensions.CustomResourceDefinitionInterface, crd *apiextensionsv1.CustomResourceDefinition) error {
	return wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := api.Create(ctx, crd, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return err == nil, err
		}
		live, err := api.Get(ctx, crd.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && live.DeletionTimestamp != nil {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		live.Spec = crd.Spec
		_, err = api.Update(ctx, live, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
}

func readCRDs(path string) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	files := []string{path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.yaml")); err != nil {
			return nil, err
		}
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found, err := decodeCRDs(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		crds = append(crds, found...)
	}
	return crds, nil
}

func decodeCRDs(content []byte) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	var crds []*apiextensionsv1.CustomResourceDefinition
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return crds, nil
		}
		if err != nil {
			return nil, err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(document, crd); err != nil {
			return nil, err
		}
		if crd.Kind == "CustomResourceDefinition" {
			crds = append(crds, crd)
		}
	}
}
