// Golden answers of upstream's node authorizer and RBAC to random objects and requests, and values that its
// encryption at rest wrote.
//
// Run it in the module's folder with `go run ./access OUTPUT-FOLDER`; it writes node.json, rbac.json and encrypt.json,
// which the tests of cluster/auth and cluster/api replay without Go. SEED and COUNT in the environment choose others.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: go run ./access OUTPUT-FOLDER"))
	}
	number := func(name string, otherwise int) int {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				fail(err)
			}
			return n
		}
		return otherwise
	}
	seed, count := int64(number("SEED", 1)), number("COUNT", 1)
	write := func(name string, answers any) {
		text, err := json.Marshal(answers)
		if err != nil {
			fail(err)
		}
		if err := os.WriteFile(filepath.Join(os.Args[1], name), append(text, '\n'), 0o644); err != nil {
			fail(err)
		}
	}
	write("node.json", nodeWorld(rand.New(rand.NewSource(seed)), count))
	write("rbac.json", rbacWorld(rand.New(rand.NewSource(seed)), count))
	write("encrypt.json", encryptWorld())
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A request as both sides read it, and what upstream says to it.
type question struct {
	User        string   `json:"user"`
	Groups      []string `json:"groups,omitempty"`
	Verb        string   `json:"verb"`
	Group       string   `json:"group,omitempty"`
	Resource    string   `json:"resource,omitempty"`
	Subresource string   `json:"subresource,omitempty"`
	Namespace   string   `json:"namespace,omitempty"`
	Name        string   `json:"name,omitempty"`
	Path        string   `json:"path,omitempty"`
	Fields      string   `json:"fields,omitempty"`
	Allowed     bool     `json:"allowed,omitempty"`
	Reason      string   `json:"reason,omitempty"`
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.Intn(len(from))] }

func chance(r *rand.Rand, percent int) bool { return r.Intn(100) < percent }

func names(prefix string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s%d", prefix, i))
	}
	return all
}
