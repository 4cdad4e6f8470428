// Golden answers of cel-go with Kubernetes' environment, for the tests of cluster/cel.
//
// Run it in the folder above with `go run ./cel OUTPUT-FOLDER`; it reads cases.json beside this
// file and writes cel.json: for every expression its type, its value or error, and its costs.
package main

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
)

//go:embed cases.json
var input []byte

type group struct {
	Name        string          `json:"name"`
	Schema      json.RawMessage `json:"schema,omitempty"`
	Object      json.RawMessage `json:"object,omitempty"`
	Old         json.RawMessage `json:"old,omitempty"`
	Dyn         json.RawMessage `json:"dyn,omitempty"`
	Root        bool            `json:"root,omitempty"`
	JSONPatch   bool            `json:"jsonPatch,omitempty"`
	Expressions []string        `json:"expressions"`
}

type answer struct {
	Expression string  `json:"expression"`
	Issues     string  `json:"issues,omitempty"`
	Type       string  `json:"type,omitempty"`
	Plan       string  `json:"plan,omitempty"`
	Min        uint64  `json:"min"`
	Max        uint64  `json:"max"`
	Value      string  `json:"value,omitempty"`
	Error      string  `json:"error,omitempty"`
	Cost       *uint64 `json:"cost,omitempty"`
}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: go run ./cel OUTPUT-FOLDER"))
	}
	var groups []group
	if err := json.Unmarshal(input, &groups); err != nil {
		fail(err)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	text.WriteString("[\n")
	for i, g := range groups {
		fmt.Fprintf(&text, "{\"name\":%q,\"answers\":[\n", g.Name)
		for j, a := range answersOf(g) {
			if j > 0 {
				text.WriteString(",")
			}
			if err := encoder.Encode(a); err != nil {
				fail(err)
			}
		}
		text.WriteString("]}")
		if i < len(groups)-1 {
			text.WriteString(",")
		}
		text.WriteString("\n")
	}
	text.WriteString("]\n")
	if err := os.WriteFile(filepath.Join(os.Args[1], "cel.json"), text.Bytes(), 0o644); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func decode(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	var value any
	if err := kjson.Unmarshal(raw, &value); err != nil {
		fail(err)
	}
	return value
}

func structural(raw json.RawMessage) *schema.Structural {
	v1 := &apiextensionsv1.JSONSchemaProps{}
	if err := json.Unmarshal(raw, v1); err != nil {
		fail(err)
	}
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1, internal, nil); err != nil {
		fail(err)
	}
	s, err := schema.NewStructural(internal)
	if err != nil {
		fail(err)
	}
	return s
}

func answersOf(g group) []answer {
	options := []cel.EnvOption{cel.Variable("dyn_value", cel.DynType)}
	var declTypes []*apiservercel.DeclType
	activation := map[string]any{"dyn_value": decode(g.Dyn)}
	var root *apiservercel.DeclType
	if g.Schema != nil {
		s := structural(g.Schema)
		root = model.SchemaDeclType(s, g.Root).MaybeAssignTypeName("selfType")
		declTypes = append(declTypes, root)
		options = append(options, cel.Variable("self", root.CelType()), cel.Variable("oldSelf", types.NewOptionalType(root.CelType())))
		if g.Root {
			s = model.WithTypeAndObjectMeta(s)
		}
		activation["self"] = schemacel.UnstructuredToVal(decode(g.Object), s)
		if g.Old != nil {
			activation["oldSelf"] = types.OptionalOf(schemacel.UnstructuredToVal(decode(g.Old), s))
		} else {
			activation["oldSelf"] = types.OptionalNone
		}
	}
	if g.JSONPatch {
		options = append(options, library.JSONPatch())
	}
	base := environment.MustBaseEnvSet(version.MajorMinor(1, 36))
	set, err := base.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        options,
		DeclTypes:         declTypes,
	})
	if err != nil {
		fail(err)
	}
	env := set.StoredExpressionsEnv()
	estimator := &library.CostEstimator{SizeEstimator: &sizes{root}}
	var result []answer
	for _, expression := range g.Expressions {
		result = append(result, evaluate(env, estimator, expression, activation))
	}
	return result
}

func evaluate(env *cel.Env, estimator *library.CostEstimator, expression string, activation map[string]any) answer {
	a := answer{Expression: expression}
	ast, issues := env.Compile(expression)
	if issues != nil {
		a.Issues = issues.String()
		return a
	}
	a.Type = cel.FormatCELType(ast.OutputType())
	estimate, err := env.EstimateCost(ast, estimator)
	if err != nil {
		fail(err)
	}
	a.Min, a.Max = estimate.Min, estimate.Max
	program, err := env.Program(ast, cel.CostLimit(celconfig.PerCallLimit), cel.CostTracking(estimator))
	if err != nil {
		a.Plan = err.Error()
		return a
	}
	value, details, err := program.Eval(activation)
	if err != nil {
		a.Error = err.Error()
	} else {
		a.Value = render(value)
	}
	if details != nil {
		a.Cost = details.ActualCost()
	}
	return a
}

func render(value ref.Val) string {
	switch v := value.(type) {
	case types.Null:
		return "null"
	case types.Bool:
		return strconv.FormatBool(bool(v))
	case types.Int:
		return strconv.FormatInt(int64(v), 10)
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10) + "u"
	case types.Double:
		return "double " + strconv.FormatFloat(float64(v), 'g', -1, 64)
	case types.String:
		return strconv.Quote(string(v))
	case types.Bytes:
		return "bytes " + base64.StdEncoding.EncodeToString(v)
	case types.Timestamp, types.Duration:
		return fmt.Sprint(value.ConvertToType(types.StringType))
	case *types.Type:
		return "type " + v.TypeName()
	case *types.Optional:
		if v.HasValue() {
			return "some(" + render(v.GetValue()) + ")"
		}
		return "none"
	case traits.Lister:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			parts = append(parts, render(it.Next()))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case traits.Mapper:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			if key == nil {
				// A declared object's iterator ends in nothing for every property it does not know.
				continue
			}
			parts = append(parts, render(key)+": "+render(v.Get(key)))
		}
		sort.Strings(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	case *types.Err:
		return "error " + v.Error()
	}
	return value.Type().TypeName()
}

type sizes struct{ root *apiservercel.DeclType }

func (s *sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	if len(element.Path()) == 0 || s.root == nil {
		return nil
	}
	node := s.root
	for _, name := range element.Path()[1:] {
		switch name {
		case "@items", "@values":
			node = node.ElemType
		case "@keys":
			node = node.KeyType
		default:
			field, ok := node.Fields[name]
			if !ok {
				return nil
			}
			node = field.Type
		}
		if node == nil {
			return nil
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: uint64(node.MaxElements)}
}

func (s *sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
