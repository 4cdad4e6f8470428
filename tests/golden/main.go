// Golden answers of the upstream Go libraries, for the schema crate's tests.
//
// Run it in this folder with `go run . OUTPUT-FOLDER`; it reads cases.json and writes one file of
// answers for each subject. The answers are checked in, so that the tests need no Go. With
// `go run . random SEED COUNT` it prints random sequences of applies and updates with their answers.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

//go:embed cases.json
var input []byte

type cases struct {
	Decode    []decodeCase    `json:"decode"`
	Defaults  []defaultsCase  `json:"defaults"`
	Strategic []strategicCase `json:"strategic"`
	ThreeWay  []threeWayCase  `json:"threeWay"`
	Apply     []applyCase     `json:"apply"`
	Custom    []customKind    `json:"custom"`
	Random    []randomKind    `json:"random"`
}

type decodeCase struct {
	Kind   string          `json:"kind"`
	Body   string          `json:"body"`
	Strict []string        `json:"strict,omitempty"`
	Error  string          `json:"error,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
}

type strategicCase struct {
	Kind     string          `json:"kind"`
	Original json.RawMessage `json:"original"`
	Patch    json.RawMessage `json:"patch"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Every ordered pair of objects of a three-way case becomes a strategic case: the patch that
// kubectl would make of the change, applied to the live object.
type threeWayCase struct {
	Kind    string            `json:"kind"`
	Live    json.RawMessage   `json:"live"`
	Objects []json.RawMessage `json:"objects"`
}

func main() {
	var all cases
	if err := json.Unmarshal(input, &all); err != nil {
		fail(err)
	}
	if len(os.Args) == 4 && os.Args[1] == "random" {
		seed, err := strconv.ParseInt(os.Args[2], 10, 64)
		if err != nil {
			fail(err)
		}
		count, err := strconv.Atoi(os.Args[3])
		if err != nil {
			fail(err)
		}
		os.Stdout.Write(lines(randomCases(all.Random, all.Custom, seed, count)))
		return
	}
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: go run . OUTPUT-FOLDER | random SEED COUNT"))
	}
	write("decode.json", decodeAnswers(all.Decode))
	write("defaults.json", defaultsAnswers(all.Defaults))
	write("strategic.json", strategicAnswers(all.Strategic, all.ThreeWay))
	write("apply.json", applyAnswers(all.Apply, all.Custom))
	write("apply-random.json", randomCases(all.Random, all.Custom, 1, 80))
	write("custom.json", all.Custom)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// One answer is one line.
func write[T any](name string, answers []T) {
	if err := os.WriteFile(filepath.Join(os.Args[1], name), lines(answers), 0o644); err != nil {
		fail(err)
	}
}

func lines[T any](answers []T) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	for i, answer := range answers {
		text.WriteString(map[bool]string{true: "[\n", false: ","}[i == 0])
		if err := encoder.Encode(answer); err != nil {
			fail(err)
		}
	}
	text.WriteString("]\n")
	return text.Bytes()
}

func parse(kind string) schema.GroupVersionKind {
	var version, name string
	for i := len(kind) - 1; i >= 0; i-- {
		if kind[i] == ' ' {
			version, name = kind[:i], kind[i+1:]
			break
		}
	}
	return schema.FromAPIVersionAndKind(version, name)
}

func object(kind string) runtime.Object {
	created, err := scheme.Scheme.New(parse(kind))
	if err != nil {
		fail(err)
	}
	return created
}

func decodeAnswers(list []decodeCase) []decodeCase {
	strict := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme.Scheme, scheme.Scheme,
		serializer.SerializerOptions{Strict: true})
	for i := range list {
		answer := &list[i]
		kind := parse(answer.Kind)
		decoded, _, err := strict.Decode([]byte(answer.Body), &kind, nil)
		if found, ok := runtime.AsStrictDecodingError(err); ok {
			for _, one := range found.Errors() {
				answer.Strict = append(answer.Strict, one.Error())
			}
		} else if err != nil {
			answer.Error = err.Error()
			continue
		}
		decoded.GetObjectKind().SetGroupVersionKind(kind)
		if answer.Value, err = json.Marshal(decoded); err != nil {
			fail(err)
		}
	}
	return list
}

func strategicAnswers(list []strategicCase, threeWay []threeWayCase) []strategicCase {
	for _, group := range threeWay {
		meta, err := strategicpatch.NewPatchMetaFromStruct(object(group.Kind))
		if err != nil {
			fail(err)
		}
		for _, before := range group.Objects {
			for _, after := range group.Objects {
				patch, err := strategicpatch.CreateThreeWayMergePatch(before, after, group.Live, meta, true)
				if err != nil {
					fail(err)
				}
				list = append(list, strategicCase{Kind: group.Kind, Original: group.Live, Patch: patch})
			}
		}
	}
	for i := range list {
		one := &list[i]
		result, err := strategicpatch.StrategicMergePatch(one.Original, one.Patch, object(one.Kind))
		if err != nil {
			one.Error = err.Error()
			continue
		}
		one.Result = result
	}
	return list
}
