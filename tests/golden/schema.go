package main

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

const kindExtension = "x-kubernetes-group-version-kind"

// The types of the server, and one that a CustomResourceDefinition could define.
func converter(custom *customKind) managedfields.TypeConverter {
	definitions := openapi.GetOpenAPIDefinitions(func(path string) spec.Ref {
		return spec.MustCreateRef("#/definitions/" + path)
	})
	models := map[string]*spec.Schema{}
	for name, definition := range definitions {
		model := definition.Schema
		models[name] = &model
	}
	for kind := range scheme.Scheme.AllKnownTypes() {
		name, err := scheme.Scheme.ToOpenAPIDefinitionName(kind)
		if err != nil {
			continue
		}
		if model, ok := models[name]; ok {
			describe(model, kind)
		}
	}
	if custom != nil {
		models["custom"] = custom.model()
	}
	made, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		fail(err)
	}
	return made
}

func describe(model *spec.Schema, kind schema.GroupVersionKind) {
	list, _ := model.Extensions[kindExtension].([]interface{})
	model.AddExtension(kindExtension, append(list, map[string]interface{}{
		"group": kind.Group, "version": kind.Version, "kind": kind.Kind,
	}))
}

// A kind with a schema of its own.
type customKind struct {
	Kind   string          `json:"kind"`
	Schema json.RawMessage `json:"schema"`
}

func (c *customKind) model() *spec.Schema {
	model := &spec.Schema{}
	if err := json.Unmarshal(c.Schema, model); err != nil {
		fail(err)
	}
	text := *spec.StringProperty()
	model.Properties["apiVersion"], model.Properties["kind"] = text, text
	model.Properties["metadata"] = *spec.RefSchema("#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
	describe(model, parse(c.Kind))
	return model
}

// Custom resources are what they are in every version.
type unconverted struct{}

func (unconverted) Convert(in, out, context interface{}) error {
	return fmt.Errorf("not used")
}

func (unconverted) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	kind, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{in.GetObjectKind().GroupVersionKind()})
	if !ok {
		return nil, fmt.Errorf("no such version")
	}
	out := in.DeepCopyObject()
	out.GetObjectKind().SetGroupVersionKind(kind)
	return out, nil
}

func (unconverted) ConvertFieldLabel(kind schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (unconverted) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	made := &unstructured.Unstructured{}
	made.SetGroupVersionKind(kind)
	return made, nil
}
