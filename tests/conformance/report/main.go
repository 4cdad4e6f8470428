// Command report turns what Ginkgo recorded into the results file.
//
//	report results CONFORMANCE.YAML RESULTS.MD COMMIT REPORT.json...   merges a run into the results and prints the last line
//	report failed RESULTS.MD                                          prints a focus expression for each failing name
//	report share RESULTS.MD SHARE.TXT REPORT.json...                  fails when a spec of the share does not pass that the results list as passing
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 4 && args[0] == "results":
		return mergeRun(args[1], args[2], args[3], args[4:])
	case len(args) == 2 && args[0] == "failed":
		results, err := readResults(args[1])
		if err != nil {
			return err
		}
		for _, name := range results.named(failed) {
			fmt.Println(regexp.QuoteMeta(name))
		}
		return nil
	case len(args) >= 4 && args[0] == "share":
		return compareShare(args[1], args[2], args[3:])
	}
	return fmt.Errorf("usage: report results|failed|share …")
}

// outcome is how a spec ended.
type outcome string

const (
	passed  outcome = "Passing"
	failed  outcome = "Failing"
	skipped outcome = "Skipped"
)

// verdict is the outcome of a spec and the first line of its error or reason.
type verdict struct {
	outcome outcome
	why     string
}

// readReports collects the verdicts of Ginkgo's JSON reports. A suite that fails outside a spec is an error.
func readReports(files []string) (map[string]verdict, error) {
	verdicts := map[string]verdict{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var reports []types.Report
		if err := json.Unmarshal(data, &reports); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(reports) == 0 {
			return nil, fmt.Errorf("%s holds no report: the suite could not write it", file)
		}
		for _, report := range reports {
			for _, spec := range report.SpecReports {
				if spec.LeafNodeType != types.NodeTypeIt {
					if spec.State.Is(types.SpecStateFailureStates) {
						return nil, fmt.Errorf("the suite's %s failed: %s", spec.LeafNodeType, firstLine(spec.FailureMessage()))
					}
					continue
				}
				name := strings.Join(strings.Fields(spec.FullText()), " ")
				switch {
				case spec.State == types.SpecStatePassed:
					verdicts[name] = verdict{passed, ""}
				case spec.State.Is(types.SpecStateFailureStates):
					verdicts[name] = verdict{failed, firstLine(spec.FailureMessage())}
				case spec.State == types.SpecStateSkipped && spec.FailureMessage() != "":
					// A spec that the selection left out has no message.
					verdicts[name] = verdict{skipped, firstLine(spec.FailureMessage())}
				}
			}
		}
	}
	return verdicts, nil
}

// firstLine is the part of a failure that says what was wrong, without what differs from run to run.
func firstLine(message string) string {
	lines := strings.Split(strings.TrimSpace(message), "\n")
	line := strings.TrimSpace(lines[0])
	// Gomega puts the error itself on the lines after "Unexpected error:".
	if len(lines) > 1 && (strings.HasSuffix(line, ":") || len(line) < 12) {
		line += " " + strings.TrimSpace(lines[1])
	}
	return truncate(line, 240)
}

func truncate(text string, limit int) string {
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return text
}

// mergeRun replaces in the results what the run has seen anew.
func mergeRun(catalogue, path, commit string, files []string) error {
	seen, err := readReports(files)
	if err != nil {
		return err
	}
	results, err := readResults(path)
	if err != nil {
		return err
	}
	if results.catalogue, err = readCatalogue(catalogue); err != nil {
		return err
	}
	results.header = fmt.Sprintf("Kubernetes v1.36.3's own conformance specs against Strata. Last run: %s, commit %s.",
		time.Now().UTC().Format("2006-01-02"), commit)
	count := map[outcome]int{}
	for name, verdict := range seen {
		count[verdict.outcome]++
		if verdict.outcome != passed {
			fmt.Printf("%s: %s\n    %s\n", strings.ToLower(string(verdict.outcome)), name, verdict.why)
		}
		if results.catalogue[name] {
			results.verdicts[name] = verdict
		}
	}
	if err := results.write(path); err != nil {
		return err
	}
	fmt.Printf("conformance: %d passed, %d failed, %d skipped\n", count[passed], count[failed], count[skipped])
	if count[failed] > 0 || count[passed] == 0 {
		os.Exit(1)
	}
	return nil
}

// readCatalogue is the set of names that upstream's list holds.
func readCatalogue(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Codename string `json:"codename"`
	}
	if err := yaml.Unmarshal(data, &entries); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, entry := range entries {
		names[strings.Join(strings.Fields(entry.Codename), " ")] = true
	}
	return names, nil
}

// compareShare says whether a run has kept what the results promise of the names in the share.
func compareShare(path, share string, files []string) error {
	seen, err := readReports(files)
	if err != nil {
		return err
	}
	results, err := readResults(path)
	if err != nil {
		return err
	}
	names, err := os.ReadFile(share)
	if err != nil {
		return err
	}
	for _, name := range strings.Split(string(names), "\n") {
		if name = strings.TrimSpace(name); name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if _, ran := seen[name]; !ran {
			seen[name] = verdict{failed, "it did not run"}
		}
	}
	count, lost := map[outcome]int{}, 0
	for name, verdict := range seen {
		count[verdict.outcome]++
		if verdict.outcome != passed {
			fmt.Printf("%s: %s\n    %s\n", strings.ToLower(string(verdict.outcome)), name, verdict.why)
			if results.verdicts[name].outcome == passed {
				lost++
			}
		}
	}
	fmt.Printf("conformance: %d passed, %d failed, %d skipped\n", count[passed], count[failed], count[skipped])
	if lost > 0 || count[passed] == 0 {
		return fmt.Errorf("%d specs that %s lists as passing have not passed", lost, path)
	}
	return nil
}
