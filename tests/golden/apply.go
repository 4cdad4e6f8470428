package main

import (
	"encoding/json"
	"sort"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// A sequence of writes to one object, each with its answer.
type applyCase struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Of a kind that is this case's own.
	Schema json.RawMessage `json:"schema,omitempty"`
	Steps  []applyStep     `json:"steps"`
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

// One object and what writes to it are made with.
type world struct {
	kind   string
	custom *customKind
	types  managedfields.TypeConverter
	live   runtime.Object
}

var converters = map[string]managedfields.TypeConverter{}

func newWorld(kind string, custom []customKind) *world {
	made := &world{kind: kind}
	name := ""
	for i := range custom {
		if custom[i].Kind == kind {
			made.custom, name = &custom[i], kind
		}
	}
	if converters[name] == nil {
		converters[name] = converter(made.custom)
	}
	made.types = converters[name]
	made.live = made.empty()
	return made
}

func (w *world) empty() runtime.Object {
	if w.custom != nil {
		made, _ := unconverted{}.New(parse(w.kind))
		return made
	}
	made := object(w.kind)
	made.GetObjectKind().SetGroupVersionKind(parse(w.kind))
	return made
}

// The object as JSON has it.
func (w *world) content() map[string]interface{} {
	text, err := json.Marshal(w.live)
	if err != nil {
		fail(err)
	}
	var content map[string]interface{}
	if err := json.Unmarshal(text, &content); err != nil {
		fail(err)
	}
	return content
}

// Paths that strategies reset, so that nobody manages them through a path of the API.
func (w *world) manager(subresource string) *managedfields.FieldManager {
	kind := parse(w.kind)
	reset := fieldpath.MakePathOrDie("status")
	if subresource == "status" {
		reset = fieldpath.MakePathOrDie("spec")
	}
	filters := map[fieldpath.APIVersion]fieldpath.Filter{
		fieldpath.APIVersion(kind.GroupVersion().String()): fieldpath.NewExcludeSetFilter(fieldpath.NewSet(reset)),
	}
	var made *managedfields.FieldManager
	var err error
	if w.custom != nil {
		made, err = managedfields.NewDefaultCRDFieldManager(w.types, unconverted{}, noDefaults{}, unconverted{},
			kind, kind.GroupVersion(), subresource, filters)
	} else {
		made, err = managedfields.NewDefaultFieldManager(w.types, scheme.Scheme, noDefaults{}, scheme.Scheme,
			kind, kind.GroupVersion(), subresource, filters)
	}
	if err != nil {
		fail(err)
	}
	return made
}

func applyAnswers(list []applyCase, custom []customKind) []applyCase {
	for i := range list {
		world := newWorld(list[i].Kind, custom)
		for j := range list[i].Steps {
			world.answer(&list[i].Steps[j])
		}
	}
	return list
}

func (w *world) decoded(text json.RawMessage) runtime.Object {
	out := w.empty()
	if err := json.Unmarshal(text, out); err != nil {
		fail(err)
	}
	out.GetObjectKind().SetGroupVersionKind(parse(w.kind))
	return out
}

// Carries out a step.
func (w *world) answer(step *applyStep) {
	manager := w.manager(step.Subresource)
	var after runtime.Object
	var err error
	if step.Operation == "set" {
		// The object is as it is, whoever made it so.
		after = w.decoded(step.Object)
	} else if step.Operation == "apply" {
		config := &unstructured.Unstructured{}
		if err := json.Unmarshal(step.Object, &config.Object); err != nil {
			fail(err)
		}
		config.Object = whole(config.Object).(map[string]interface{})
		config.SetGroupVersionKind(parse(w.kind))
		after, err = manager.Apply(w.live.DeepCopyObject(), config, step.Manager, step.Force)
	} else {
		changed := w.decoded(step.Object)
		keepManagedFields(w.live, changed)
		after, err = manager.Update(w.live.DeepCopyObject(), changed, step.Manager)
	}
	if err != nil {
		step.Error = err.Error()
		if status, ok := err.(apierrors.APIStatus); ok && status.Status().Details != nil {
			for _, cause := range status.Status().Details.Causes {
				step.Causes = append(step.Causes, cause.Field+": "+cause.Message)
			}
		}
		// Conflicts with several managers come in any order.
		sort.Strings(step.Causes)
		if len(step.Causes) > 1 {
			lines := strings.Split(step.Error, "\n")
			sort.Strings(lines[1:])
			step.Error = strings.Join(lines, "\n")
		}
		return
	}
	after.GetObjectKind().SetGroupVersionKind(parse(w.kind))
	stored(after)
	step.Result = withoutTimes(after)
	w.live = after
}

// What the server does to every object: it has an identity, and no metadata that is empty.
func stored(written runtime.Object) {
	accessor, err := meta.Accessor(written)
	if err != nil {
		fail(err)
	}
	accessor.SetUID("u")
	if custom, ok := written.(*unstructured.Unstructured); ok {
		metadata := custom.Object["metadata"].(map[string]interface{})
		for name, member := range metadata {
			list, _ := member.([]interface{})
			members, _ := member.(map[string]interface{})
			if _, text := member.(string); !text && len(list) == 0 && len(members) == 0 {
				delete(metadata, name)
			}
		}
		dropNulls(custom.Object)
	}
}

// Members of custom resources that may not be null are none.
func dropNulls(value interface{}) {
	switch value := value.(type) {
	case map[string]interface{}:
		for name, member := range value {
			if member == nil {
				delete(value, name)
			}
			dropNulls(member)
		}
	case []interface{}:
		for _, item := range value {
			dropNulls(item)
		}
	}
}

// Whole numbers as the server's decoder makes them.
func whole(value interface{}) interface{} {
	switch value := value.(type) {
	case map[string]interface{}:
		for name, member := range value {
			value[name] = whole(member)
		}
	case []interface{}:
		for at, item := range value {
			value[at] = whole(item)
		}
	case float64:
		if value == float64(int64(value)) {
			return int64(value)
		}
	}
	return value
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
	if to.GetManagedFields() == nil {
		to.SetManagedFields(from.GetManagedFields())
	}
}

// The object with its managed fields in a fixed order, and one time for all entries that have any.
func withoutTimes(written runtime.Object) json.RawMessage {
	copied := written.DeepCopyObject()
	accessor, err := meta.Accessor(copied)
	if err != nil {
		fail(err)
	}
	entries := accessor.GetManagedFields()
	for i := range entries {
		if entries[i].Time != nil {
			entries[i].Time = &metav1.Time{Time: time.Unix(0, 0).UTC()}
		}
	}
	identity := func(i int) string {
		entry := entries[i]
		return strings.Join([]string{entry.Manager, string(entry.Operation), entry.APIVersion, entry.Subresource}, "/")
	}
	sort.SliceStable(entries, func(i, j int) bool { return identity(i) < identity(j) })
	accessor.SetManagedFields(entries)
	text, err := json.Marshal(copied)
	if err != nil {
		fail(err)
	}
	return text
}
