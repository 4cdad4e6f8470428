// Command report turns what Ginkgo recorded into the results file, and prints the last line.
//
//	report [--results CRITEST.md --commit COMMIT --crictl FAILED] REPORT.json
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/onsi/ginkgo/v2/types"
)

// What cannot pass anywhere but where the image of that digest is.
const pinned = "public image with digest"

func main() {
	results := flag.String("results", "", "the results file")
	commit := flag.String("commit", "", "the commit that was tested")
	crictl := flag.String("crictl", "", "whether crictl's script failed: 0 or 1")
	flag.Parse()
	ok, err := run(flag.Arg(0), *results, *commit, *crictl)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(file, results, commit, crictl string) (bool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	var reports []types.Report
	if err := json.Unmarshal(data, &reports); err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	passed, failed, skipped := 0, []string{}, []string{}
	ok := true
	for _, report := range reports {
		for _, spec := range report.SpecReports {
			name := strings.TrimSpace(spec.FullText())
			switch {
			case spec.State.Is(types.SpecStateFailureStates):
				failed = append(failed, line(name, spec.FailureMessage()))
				ok = ok && strings.Contains(name, pinned)
			case spec.LeafNodeType != types.NodeTypeIt:
			case spec.State.Is(types.SpecStatePassed):
				passed++
			// What the run was told to leave out is not part of it.
			case spec.State.Is(types.SpecStateSkipped) && spec.Failure.Message != "":
				skipped = append(skipped, line(name, spec.FailureMessage()))
			}
		}
	}
	for _, entry := range failed {
		fmt.Println("failed " + strings.TrimPrefix(entry, "- "))
	}
	last := fmt.Sprintf("interop: %d passed, %d failed, %d skipped", passed, len(failed), len(skipped))
	if results != "" {
		if err := os.WriteFile(results, []byte(page(commit, crictl, last, failed, skipped)), 0o644); err != nil {
			return false, err
		}
	}
	fmt.Println(last)
	return ok, nil
}

func page(commit, crictl, last string, failed, skipped []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# critest v1.34.0 against `strata cri`\n\nMade by `make critest` at %s. ", commit)
	if crictl == "0" {
		b.WriteString("The script of crictl's commands passes too.\n")
	} else {
		b.WriteString("The script of crictl's commands fails.\n")
	}
	b.WriteString("test-image-digest is pinned by its digest and cannot be built again: what needs it fails here.\n")
	for _, section := range []struct {
		title string
		lines []string
	}{{"Failing", failed}, {"Skipped", skipped}} {
		fmt.Fprintf(&b, "\n## %s\n\n", section.title)
		sort.Strings(section.lines)
		for _, entry := range section.lines {
			b.WriteString(entry + "\n")
		}
		if len(section.lines) == 0 {
			b.WriteString("None.\n")
		}
	}
	return b.String() + "\n" + last + "\n"
}

func line(name, why string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(why), "\n")
	return "- " + name + ": " + first
}
