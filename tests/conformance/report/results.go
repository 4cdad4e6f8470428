package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strings"
)

// results is the results file: what is known of each spec of the catalogue.
type results struct {
	header    string
	catalogue map[string]bool
	verdicts  map[string]verdict
}

// readResults parses the file that write made; a missing file is an empty one.
func readResults(path string) (*results, error) {
	found := &results{verdicts: map[string]verdict{}}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var section outcome
	var last string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "## "):
			section = outcome(strings.TrimPrefix(line, "## "))
		case section == "":
		case strings.HasPrefix(line, "- "):
			last = strings.TrimPrefix(line, "- ")
			found.verdicts[last] = verdict{section, ""}
		case strings.HasPrefix(line, "  `"):
			found.verdicts[last] = verdict{section, strings.Trim(line, " `")}
		}
	}
	return found, lines.Err()
}

// named lists the names with an outcome, in order.
func (r *results) named(wanted outcome) []string {
	var names []string
	for name, verdict := range r.verdicts {
		if verdict.outcome == wanted {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// area is the SIG of a name.
func area(name string) string {
	return strings.TrimPrefix(strings.SplitN(name, "]", 2)[0], "[")
}

func (r *results) write(path string) error {
	var out strings.Builder
	fmt.Fprintf(&out, "# Conformance\n\n%s\n`make conformance` writes this file; a restricted run changes only the names it ran.\n\n", r.header)
	out.WriteString("| area | specs | passed | failed | skipped | not run |\n|---|---|---|---|---|---|\n")
	rows := map[string]map[outcome]int{}
	for name := range r.catalogue {
		for _, key := range []string{area(name), "~all"} {
			if rows[key] == nil {
				rows[key] = map[outcome]int{}
			}
			rows[key][r.verdicts[name].outcome]++
		}
	}
	var keys []string
	for key := range rows {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		row := rows[key]
		all := row[passed] + row[failed] + row[skipped] + row[""]
		fmt.Fprintf(&out, "| %s | %d | %d | %d | %d | %d |\n", strings.TrimPrefix(key, "~"), all, row[passed], row[failed], row[skipped], row[""])
	}
	for _, section := range []outcome{failed, skipped, passed} {
		fmt.Fprintf(&out, "\n## %s\n\n", section)
		for _, name := range r.named(section) {
			fmt.Fprintf(&out, "- %s\n", name)
			if why := strings.ReplaceAll(r.verdicts[name].why, "`", "'"); why != "" {
				fmt.Fprintf(&out, "  `%s`\n", why)
			}
		}
	}
	return os.WriteFile(path, []byte(out.String()), 0o644)
}
