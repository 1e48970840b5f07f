package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"

	"holdline/agentd"
)

// agentCommand administers agents, directly in storage: it may run beside the server.
func agentCommand(ctx context.Context, args []string, out io.Writer) error {
	var display, password string
	var capacity int
	c, rest, err := loadConfig("agent", args, os.Getenv, func(fs *flag.FlagSet) {
		fs.StringVar(&display, "display", "", "")
		fs.StringVar(&password, "password", "", "")
		fs.IntVar(&capacity, "capacity", 0, "")
	})
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return fmt.Errorf("agent: say add, list, password, disable or enable; see holdline help\n%w", errUsage)
	}
	do, rest := rest[0], rest[1:]
	want := []string{"NAME"}
	switch do {
	case "add", "password", "disable", "enable":
	case "list":
		want = nil
	default:
		return fmt.Errorf("agent: %q is not add, list, password, disable or enable; see holdline help\n%w", do, errUsage)
	}
	if err := wantArgs(rest, want...); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	if err := c.migrate(ctx); err != nil {
		return err
	}
	store, err := c.openStore(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	staff := agentd.Staff{Store: store, By: "cli"}

	generated := password == "" && (do == "add" || do == "password")
	if generated {
		password = agentd.NewPassword()
	}
	switch do {
	case "add":
		err = staff.Add(ctx, agentd.Hire{ID: rest[0], Name: display, Password: password, Capacity: capacity})
	case "password":
		err = staff.SetPassword(ctx, rest[0], password)
	case "disable":
		err = staff.Disable(ctx, rest[0])
	case "enable":
		err = staff.Enable(ctx, rest[0])
	case "list":
		return listAgents(ctx, staff, out)
	}
	if err != nil {
		return err
	}
	if generated {
		fmt.Fprintf(out, "password of %s (shown once): %s\n", rest[0], password)
	}
	return nil
}

func listAgents(ctx context.Context, staff agentd.Staff, out io.Writer) error {
	agents, err := staff.List(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tDISPLAY\tINTENT\tREACHABLE\tLOAD\tDISABLED")
	for _, a := range agents {
		fmt.Fprintf(w, "%s\t%s\t%s\t%t\t%d/%d\t%t\n", a.ID, a.Name, a.Intent, a.Reachable, a.Load, a.Capacity, a.Disabled)
	}
	return w.Flush()
}

// login is a name and a password to show.
type login struct{ name, password string }

// firstAgent makes an agent when there is none yet, and returns the login, which is
// nowhere else to be found.
func (p *process) firstAgent(ctx context.Context) (*login, error) {
	staff := agentd.Staff{Store: p.store, By: "first start"}
	agents, err := staff.List(ctx)
	if err != nil || len(agents) > 0 {
		return nil, err
	}
	l := &login{"agent", agentd.NewPassword()}
	if err := staff.Add(ctx, agentd.Hire{ID: l.name, Name: "Agent", Password: l.password}); err != nil {
		return nil, err
	}
	return l, nil
}
