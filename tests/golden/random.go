package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"sort"
)

// A kind to make random objects of: an object that sets everything that may be set.
type randomKind struct {
	Kind   string          `json:"kind"`
	Object json.RawMessage `json:"object"`
}

// Sequences of random writes to one object, with the answers to them.
func randomCases(kinds []randomKind, custom []customKind, seed int64, count int) []applyCase {
	random := rand.New(rand.NewSource(seed))
	cases := make([]applyCase, 0, count)
	// The answers that are checked in keep to the kinds there are.
	schemas := map[string]json.RawMessage{}
	if count > 100 {
		for i := 0; i < randomSchemas; i++ {
			made, full := randomCustom(random, i)
			custom, kinds = append(custom, made), append(kinds, full)
			schemas[made.Kind] = made.Schema
		}
	}
	for i := 0; i < count; i++ {
		kind := kinds[i%len(kinds)]
		one := applyCase{Name: fmt.Sprintf("random %d/%d", seed, i), Kind: kind.Kind, Schema: schemas[kind.Kind]}
		world := newWorld(kind.Kind, custom)
		var full map[string]interface{}
		if err := json.Unmarshal(kind.Object, &full); err != nil {
			fail(err)
		}
		for steps := 2 + random.Intn(6); steps > 0; steps-- {
			step := randomStep(random, full, world)
			world.answer(&step)
			one.Steps = append(one.Steps, step)
		}
		cases = append(cases, one)
	}
	return cases
}

func randomStep(random *rand.Rand, full map[string]interface{}, world *world) applyStep {
	step := applyStep{
		Operation: "apply",
		Manager:   []string{"a", "b", "kubectl"}[random.Intn(3)],
		Force:     random.Intn(3) == 0,
	}
	if random.Intn(4) == 0 {
		step.Subresource = "status"
	}
	sparse := []int{2, 4, 8}[random.Intn(3)]
	object := thin(random, full, sparse).(map[string]interface{})
	if random.Intn(2) == 0 {
		step.Operation = "update"
		step.Force = false
		step.Manager = []string{"a", "b", "kubectl", ""}[random.Intn(4)]
		if live := world.content(); random.Intn(4) != 0 && live["metadata"] != nil {
			// A change of what is there rather than something new.
			object = thin(random, mixed(random, live, object).(map[string]interface{}), 12).(map[string]interface{})
		}
	}
	object["apiVersion"], object["kind"] = full["apiVersion"], full["kind"]
	metadata, _ := object["metadata"].(map[string]interface{})
	if metadata == nil {
		metadata = map[string]interface{}{}
	}
	delete(metadata, "managedFields")
	metadata["name"] = "x"
	delete(metadata, "uid")
	for _, name := range []string{"labels", "annotations"} {
		if members, _ := metadata[name].(map[string]interface{}); len(members) == 0 {
			delete(metadata, name)
		}
	}
	object["metadata"] = metadata
	text, err := json.Marshal(object)
	if err != nil {
		fail(err)
	}
	step.Object = text
	return step
}

// Keys of items stay, so that items remain items.
var kept = map[string]bool{"name": true, "containerPort": true, "port": true, "type": true, "mountPath": true, "id": true, "uid": true, "ip": true, "topologyKey": true, "whenUnsatisfiable": true}

// The value without one in so many of its members and items, and with other scalars.
func thin(random *rand.Rand, value interface{}, sparse int) interface{} {
	switch value := value.(type) {
	case map[string]interface{}:
		out := map[string]interface{}{}
		for _, name := range sorted(value) {
			if kept[name] {
				out[name] = value[name]
			} else if random.Intn(sparse) != 0 {
				if member := thin(random, value[name], sparse); !vanishes(name, member) {
					out[name] = member
				}
			}
		}
		return out
	case []interface{}:
		out := []interface{}{}
		for _, item := range value {
			if random.Intn(sparse) != 0 {
				out = append(out, thin(random, item, sparse))
			}
		}
		if random.Intn(4) == 0 {
			random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		}
		return out
	case string:
		if random.Intn(6) == 0 && len(value) > 0 && value[0] >= 'a' && value[0] <= 'z' {
			return value + []string{"1", "2"}[random.Intn(2)]
		}
		return value
	case float64:
		if random.Intn(6) == 0 {
			return value + float64(random.Intn(3))
		}
		return value
	default:
		return value
	}
}

// Empty lists that the server writes as null or leaves out.
func vanishes(name string, value interface{}) bool {
	list, ok := value.([]interface{})
	return ok && len(list) == 0 && (name == "containers" || name == "finalizers" || name == "ownerReferences")
}

// Members of both, scalars and lists of either.
func mixed(random *rand.Rand, a, b interface{}) interface{} {
	left, ok := a.(map[string]interface{})
	right, also := b.(map[string]interface{})
	if !ok || !also {
		if random.Intn(3) == 0 {
			return b
		}
		return a
	}
	out := map[string]interface{}{}
	for _, name := range sorted(left) {
		out[name] = left[name]
	}
	for _, name := range sorted(right) {
		if present, ok := out[name]; ok {
			out[name] = mixed(random, present, right[name])
		} else if random.Intn(2) == 0 {
			out[name] = right[name]
		}
	}
	return out
}

func sorted(value map[string]interface{}) []string {
	names := make([]string, 0, len(value))
	for name := range value {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Kinds of a run whose schemas nobody wrote: each takes a while to make types of.
const randomSchemas = 6

// A kind with a random schema, and an object that sets everything.
func randomCustom(random *rand.Rand, at int) (customKind, randomKind) {
	spec, full := randomSchema(random, 3, true)
	kind := fmt.Sprintf("example.com/v1 Random%d", at)
	status := map[string]interface{}{"type": "object", "properties": map[string]interface{}{"phase": map[string]interface{}{"type": "string"}}}
	schema := map[string]interface{}{"type": "object", "properties": map[string]interface{}{"spec": spec, "status": status}}
	object := map[string]interface{}{
		"apiVersion": "example.com/v1", "kind": fmt.Sprintf("Random%d", at),
		"metadata": map[string]interface{}{"name": "x", "labels": map[string]interface{}{"a": "b"}},
		"spec":     full, "status": map[string]interface{}{"phase": "p"},
	}
	return customKind{kind, encoded(schema)}, randomKind{kind, encoded(object)}
}

func encoded(value interface{}) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		fail(err)
	}
	return text
}

// A schema, and a value that sets all of it.
func randomSchema(random *rand.Rand, depth int, object bool) (map[string]interface{}, interface{}) {
	type member = map[string]interface{}
	shape := random.Intn(9)
	if object {
		shape = 8
	} else if depth == 0 {
		shape = random.Intn(3)
	}
	switch shape {
	case 0:
		return member{"type": "string"}, "s"
	case 1:
		return member{"type": "integer"}, random.Intn(5)
	case 2:
		return member{"type": "boolean"}, true
	case 3:
		return member{"type": "array", "x-kubernetes-list-type": "set", "items": member{"type": "string"}}, []interface{}{"a", "b", "c"}
	case 4:
		items, one := randomSchema(random, depth-1, false)
		list := member{"type": "array", "items": items}
		if random.Intn(2) == 0 {
			list["x-kubernetes-list-type"] = "atomic"
		}
		return list, []interface{}{one, one}
	case 5:
		items, one := randomSchema(random, depth-1, true)
		items["properties"].(member)["id"] = member{"type": "integer"}
		items["required"] = []string{"id"}
		var list []interface{}
		for id := 1; id < 4; id++ {
			item := member{"id": id}
			for name, value := range one.(member) {
				item[name] = value
			}
			list = append(list, item)
		}
		return member{"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": []string{"id"}, "items": items}, list
	case 6:
		values, one := randomSchema(random, depth-1, false)
		return member{"type": "object", "additionalProperties": values}, member{"k": one, "l": one}
	case 7:
		return member{"type": "object", "x-kubernetes-preserve-unknown-fields": true}, member{"u": "v", "w": member{"x": 1}}
	}
	properties, full := member{}, member{}
	for i := 1 + random.Intn(4); i > 0; i-- {
		name := string(rune('a' + i))
		properties[name], full[name] = randomSchema(random, max(depth-1, 0), false)
	}
	made := member{"type": "object", "properties": properties}
	if !object && random.Intn(4) == 0 {
		made["x-kubernetes-map-type"] = "atomic"
	}
	return made, full
}
