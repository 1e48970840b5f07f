package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheMetricsOfTheDocumentationExist: an alert on a name that nobody exports never fires.
func TestTheMetricsOfTheDocumentationExist(t *testing.T) {
	doc, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`holdline_[a-z0-9_]+`).FindAllString(string(doc), -1)
	if len(names) == 0 {
		t.Fatal("docs/operations.md names no metrics")
	}
	for _, name := range names {
		own := strings.TrimSuffix(strings.TrimPrefix(name, "holdline_"), "_total")
		if !strings.Contains(string(code), `"`+own+`"`) {
			t.Errorf("docs/operations.md names %s, which is not exported", name)
		}
	}
}
