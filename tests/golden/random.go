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
	for i := 0; i < count; i++ {
		kind := kinds[i%len(kinds)]
		one := applyCase{Name: fmt.Sprintf("random %d/%d", seed, i), Kind: kind.Kind}
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
