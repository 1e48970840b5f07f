package migrations

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// names are a folder's files without their ending.
func names(t *testing.T, folder string) []string {
	t.Helper()
	list, err := fs.Glob(files, path.Join(folder, "*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i] = strings.TrimSuffix(path.Base(list[i]), ".sql")
	}
	return list
}

func TestBothEnginesHaveTheSameMigrations(t *testing.T) {
	if d := cmp.Diff(names(t, "sqlite"), names(t, "postgres")); d != "" {
		t.Errorf("sqlite and postgres differ (-sqlite +postgres):\n%s", d)
	}
}

func TestMigrationsAreNumberedFromOne(t *testing.T) {
	list := names(t, "sqlite")
	for i, name := range list {
		number, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			t.Errorf("migration %s is the one after %d", name, i)
		}
	}
	if len(list) != Latest {
		t.Errorf("Latest is %d, there are %d migrations", Latest, len(list))
	}
}
