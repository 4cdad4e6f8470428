// Runner runs validation programs against runtimes, reads their TAP and writes what came of it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// A program that waits for what never comes is killed after this.
const limit = 90 * time.Second

type verdict string

const (
	passed  verdict = "passed"
	failed  verdict = "failed"
	skipped verdict = "skipped"
)

// Some programs race with the container: they look once whether what ends at once runs, or signal a shell that has
// not set its trap. Each may try as often with every runtime, and the report tells how often it took.
const tries = 3

// outcome is what one program said of one runtime.
type outcome struct {
	verdict verdict
	line    string // the first that tells of a failure, or the reason of a skip
	tries   int
}

func (o outcome) String() string {
	if o.verdict == passed && o.tries > 1 {
		return fmt.Sprintf("passed (try %d)", o.tries)
	}
	return string(o.verdict)
}

func main() {
	programs := flag.String("programs", "", "directory of the programs")
	work := flag.String("work", "", "directory to run them in")
	runtimes := flag.String("runtimes", "", "directory of runtimes: strata first, peers after it")
	causesPath := flag.String("causes", "", "file of lines `program: cause`")
	only := flag.String("only", "", "programs to run instead of all")
	report := flag.String("report", "", "file to write; empty writes none")
	flag.Parse()

	causes := readCauses(*causesPath)
	names := list(*programs, strings.Fields(*only))
	peers := others(*runtimes)
	results := map[string]map[string]outcome{}
	for _, name := range names {
		row := map[string]outcome{}
		for _, runtime := range append([]string{"strata"}, peers...) {
			for try := 1; try <= tries; try++ {
				found := run(filepath.Join(*programs, name), *work, filepath.Join(*runtimes, runtime))
				found.tries = try
				row[runtime] = found
				// Nothing is repeated that fails for a known reason, or with a peer alone.
				if found.verdict != failed || causes[name] != "" || runtime != "strata" && row["strata"].verdict != passed {
					break
				}
			}
		}
		results[name] = row
		fmt.Printf("%-34s", name)
		for _, runtime := range append([]string{"strata"}, peers...) {
			fmt.Printf(" %s %s", runtime, row[runtime])
		}
		fmt.Println()
		if own := row["strata"]; own.verdict == failed {
			fmt.Printf("    %s\n", own.line)
		}
	}
	if *report != "" {
		check(os.WriteFile(*report, []byte(describe(names, peers, results, causes)), 0o644))
	}
	os.Exit(judge(names, peers, results, causes))
}

// judge prints the last lines; 1 when something fails that need not.
func judge(names, peers []string, results map[string]map[string]outcome, causes map[string]string) int {
	count := map[verdict]int{}
	code := 0
	for _, name := range names {
		own := results[name]["strata"].verdict
		count[own]++
		if own == passed {
			continue
		}
		for _, peer := range peers {
			if results[name][peer].verdict == passed {
				fmt.Printf("%s: %s passes it\n", name, peer)
				code = 1
			}
		}
		if own == failed && causes[name] == "" {
			fmt.Printf("%s: no cause is known\n", name)
			code = 1
		}
	}
	fmt.Printf("interop: %d passed, %d failed, %d skipped\n", count[passed], count[failed], count[skipped])
	return code
}

func describe(names, peers []string, results map[string]map[string]outcome, causes map[string]string) string {
	var text strings.Builder
	runtimes := append([]string{"strata"}, peers...)
	text.WriteString("# OCI runtime-tools\n\nThe validation programs of OCI runtime-tools v0.9.0 against `strata-runtime`")
	if len(peers) > 0 {
		text.WriteString(", and in the same run against Debian's " + strings.Join(peers, " and "))
	}
	text.WriteString(".\n`make runtime-tools` writes this file.\n\n| program |")
	for _, runtime := range runtimes {
		text.WriteString(" " + runtime + " |")
	}
	text.WriteString("\n|---|" + strings.Repeat("---|", len(runtimes)) + "\n")
	totals := map[string]map[verdict]int{}
	for _, name := range names {
		text.WriteString("| " + name + " |")
		for _, runtime := range runtimes {
			found := results[name][runtime].verdict
			if totals[runtime] == nil {
				totals[runtime] = map[verdict]int{}
			}
			totals[runtime][found]++
			text.WriteString(" " + results[name][runtime].String() + " |")
		}
		text.WriteString("\n")
	}
	text.WriteString("| **passed / failed / skipped** |")
	for _, runtime := range runtimes {
		t := totals[runtime]
		fmt.Fprintf(&text, " %d / %d / %d |", t[passed], t[failed], t[skipped])
	}
	text.WriteString("\n\n## Not passed\n\n")
	for _, name := range names {
		own := results[name]["strata"]
		if own.verdict == passed {
			continue
		}
		fmt.Fprintf(&text, "- **%s** (%s): `%s`\n", name, own.verdict, strings.ReplaceAll(own.line, "`", "'"))
		if cause := causes[name]; cause != "" {
			text.WriteString("  " + cause + "\n")
		}
	}
	t := totals["strata"]
	fmt.Fprintf(&text, "\ninterop: %d passed, %d failed, %d skipped\n", t[passed], t[failed], t[skipped])
	return text.String()
}

// run gives one program one runtime.
func run(program, work, runtime string) outcome {
	deadline, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	command := exec.CommandContext(deadline, program)
	command.Dir = work
	command.Env = append(os.Environ(), "RUNTIME="+runtime)
	// What it starts goes with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	var output, errors bytes.Buffer
	command.Stdout, command.Stderr = &output, &errors
	err := command.Run()
	if deadline.Err() != nil {
		return outcome{verdict: failed, line: fmt.Sprintf("did not end in %v", limit)}
	}
	found := read(bytes.NewReader(output.Bytes()))
	// Programs that expect a refusal say nothing but by their exit code.
	if err == nil && output.Len() == 0 {
		return outcome{verdict: passed, line: ""}
	}
	if found.verdict != failed && err != nil {
		return outcome{verdict: failed, line: first(errors.String(), err.Error())}
	}
	if found.line == "" {
		found.line = first(errors.String(), "")
	}
	return found
}

// read judges TAP: all lines ok and as many as planned.
func read(output io.Reader) outcome {
	planned, seen, skips := -1, 0, 0
	reason, diagnosis := "", ""
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "not ok"):
			if !strings.Contains(strings.ToUpper(line), "# TODO") {
				return outcome{verdict: failed, line: line}
			}
			seen++
		case strings.HasPrefix(line, "ok"):
			seen++
			if at := strings.Index(strings.ToUpper(line), "# SKIP"); at >= 0 {
				skips++
				reason = strings.TrimSpace(line[at+len("# SKIP"):])
			}
		case strings.HasPrefix(line, `"error": `) && diagnosis == "":
			diagnosis = strings.Trim(strings.TrimPrefix(line, `"error": `), `",`)
		case strings.HasPrefix(line, "1.."):
			if planned < 0 {
				fmt.Sscanf(line, "1..%d", &planned)
			}
			if at := strings.Index(strings.ToUpper(line), "# SKIP"); at >= 0 {
				return outcome{verdict: skipped, line: strings.TrimSpace(line[at+len("# SKIP"):])}
			}
		}
	}
	switch {
	case lines.Err() != nil:
		return outcome{verdict: failed, line: lines.Err().Error()}
	case seen == 0 && diagnosis != "":
		// These plan no test, and tell of what went wrong all the same.
		return outcome{verdict: failed, line: diagnosis}
	case seen == 0 && planned == 0:
		return outcome{verdict: passed}
	case seen == 0:
		return outcome{verdict: failed, line: ""}
	case planned >= 0 && planned > seen:
		return outcome{verdict: failed, line: fmt.Sprintf("%d of %d tests ran", seen, planned)}
	case skips == seen:
		return outcome{verdict: skipped, line: reason}
	}
	return outcome{verdict: passed, line: ""}
}

func first(text, otherwise string) string {
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line != "" && line != "failed to create the container" {
			return line
		}
	}
	return otherwise
}

func list(directory string, only []string) []string {
	if len(only) > 0 {
		return only
	}
	entries, err := os.ReadDir(directory)
	check(err)
	var names []string
	for _, entry := range entries {
		if entry.Name() != "runtimetest" {
			names = append(names, entry.Name())
		}
	}
	sort.Strings(names)
	return names
}

func others(directory string) []string {
	entries, err := os.ReadDir(directory)
	check(err)
	var names []string
	for _, entry := range entries {
		if entry.Name() != "strata" {
			names = append(names, entry.Name())
		}
	}
	return names
}

func readCauses(path string) map[string]string {
	text, err := os.ReadFile(path)
	check(err)
	causes := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		if name, cause, found := strings.Cut(line, ": "); found {
			causes[name] = strings.TrimSpace(cause)
		}
	}
	return causes
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
