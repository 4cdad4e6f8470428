// oracle asks kube-scheduler's own framework and plugins about clusters that stand on its input,
// one JSON document a line, and answers with what they say, one line each.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"k8s.io/klog/v2"
)

// question is a cluster and the pods to place in it, each by itself.
type question struct {
	Seed    uint64            `json:"seed"`
	Objects []json.RawMessage `json:"objects"`
	// Pending names pods as namespace/name.
	Pending []string `json:"pending"`
	// Config is a KubeSchedulerConfiguration; absent means the defaults.
	Config json.RawMessage `json:"config,omitempty"`
}

// answer is what the plugins say about one question.
type answer struct {
	Seed  uint64    `json:"seed"`
	Error string    `json:"error,omitempty"`
	Pods  []verdict `json:"pods"`
}

// verdict is what they say about one pod.
type verdict struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
	// Message is the whole refusal; empty if some node does.
	Message  string   `json:"message,omitempty"`
	Feasible []string `json:"feasible"`
	// Scores are weighted, by node and plugin.
	Scores map[string]map[string]int64 `json:"scores,omitempty"`
	// Candidates are the nodes where preemption would make room.
	Candidates map[string]candidate `json:"candidates,omitempty"`
	// Chosen are the nodes that preemption may choose among them.
	Chosen []string `json:"chosen,omitempty"`
}

type candidate struct {
	Victims    []string `json:"victims"`
	Violations int64    `json:"violations"`
}

// Lines hold whole clusters.
const longestLine = 64 << 20

func main() {
	// klog writes to standard error only what would stop the program.
	klog.SetLogger(klog.Logger{})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	var writing sync.Mutex
	output := json.NewEncoder(os.Stdout)
	var running sync.WaitGroup
	slots := make(chan struct{}, 4)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, "oracle:", err)
			os.Exit(1)
		}
		slots <- struct{}{}
		running.Add(1)
		go func() {
			defer func() { <-slots; running.Done() }()
			found := judge(&asked)
			writing.Lock()
			defer writing.Unlock()
			if err := output.Encode(found); err != nil {
				fmt.Fprintln(os.Stderr, "oracle:", err)
				os.Exit(1)
			}
		}()
	}
	running.Wait()
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}
