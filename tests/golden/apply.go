package main

import (
	"encoding/json"
	"sort"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// A sequence of writes to one object, each with its answer.
type applyCase struct {
	Name  string      `json:"name"`
	Kind  string      `json:"kind"`
	Steps []applyStep `json:"steps"`
}

type applyStep struct {
	Operation   string          `json:"operation"`
	Manager     string          `json:"manager"`
	Force       bool            `json:"force,omitempty"`
	Subresource string          `json:"subresource,omitempty"`
	Object      json.RawMessage `json:"object"`
	Result      json.RawMessage `json:"result,omitempty"`
	Error       string          `json:"error,omitempty"`
	Causes      []string        `json:"causes,omitempty"`
}

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

func applyAnswers(list []applyCase) []applyCase {
	for i := range list {
		live := object(list[i].Kind)
		live.GetObjectKind().SetGroupVersionKind(parse(list[i].Kind))
		for j := range list[i].Steps {
			live = answerStep(list[i].Kind, live, &list[i].Steps[j])
		}
	}
	return list
}

// Carries out a step and returns the object after it.
func answerStep(name string, live runtime.Object, step *applyStep) runtime.Object {
	kind := parse(name)
	manager, err := managedfields.NewDefaultFieldManager(applyconfigurations.NewTypeConverter(scheme.Scheme), scheme.Scheme,
		noDefaults{}, scheme.Scheme, kind, kind.GroupVersion(), step.Subresource, nil)
	if err != nil {
		fail(err)
	}
	var after runtime.Object
	if step.Operation == "set" {
		// The object is as it is, whoever made it so.
		after = object(name)
		if err := json.Unmarshal(step.Object, after); err != nil {
			fail(err)
		}
	} else if step.Operation == "apply" {
		config := &unstructured.Unstructured{}
		if err := json.Unmarshal(step.Object, &config.Object); err != nil {
			fail(err)
		}
		config.SetGroupVersionKind(kind)
		after, err = manager.Apply(live.DeepCopyObject(), config, step.Manager, step.Force)
	} else {
		changed := object(name)
		if err := json.Unmarshal(step.Object, changed); err != nil {
			fail(err)
		}
		changed.GetObjectKind().SetGroupVersionKind(kind)
		keepManagedFields(live, changed)
		after, err = manager.Update(live.DeepCopyObject(), changed, step.Manager)
	}
	if err != nil {
		step.Error = err.Error()
		if status, ok := err.(apierrors.APIStatus); ok && status.Status().Details != nil {
			for _, cause := range status.Status().Details.Causes {
				step.Causes = append(step.Causes, cause.Field+": "+cause.Message)
			}
		}
		return live
	}
	after.GetObjectKind().SetGroupVersionKind(kind)
	step.Result = withoutTimes(after)
	return after
}

// An update that says nothing of managed fields keeps them, as a client's read-modify-write does.
func keepManagedFields(live, changed runtime.Object) {
	from, err := meta.Accessor(live)
	if err != nil {
		fail(err)
	}
	to, err := meta.Accessor(changed)
	if err != nil {
		fail(err)
	}
	to.SetManagedFields(from.GetManagedFields())
}

// The object with its managed fields in a fixed order and without the time of the write.
func withoutTimes(written runtime.Object) json.RawMessage {
	copied := written.DeepCopyObject()
	accessor, err := meta.Accessor(copied)
	if err != nil {
		fail(err)
	}
	entries := accessor.GetManagedFields()
	for i := range entries {
		entries[i].Time = nil
	}
	sort.SliceStable(entries, func(i, j int) bool { return entries[i].Manager < entries[j].Manager })
	accessor.SetManagedFields(entries)
	text, err := json.Marshal(copied)
	if err != nil {
		fail(err)
	}
	return text
}
