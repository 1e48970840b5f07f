package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"holdline/broker"
	"holdline/broker/sessions"
	"holdline/broker/token"
	"holdline/chat"
)

// sessionsCommand asks the process that serves the data directory about its sessions.
func sessionsCommand(ctx context.Context, args []string, out io.Writer) error {
	var away, forget bool
	var prefix, after string
	var limit int
	c, rest, err := loadConfig("sessions", args, os.Getenv, func(fs *flag.FlagSet) {
		fs.BoolVar(&away, "all", false, "")
		fs.BoolVar(&forget, "forget", false, "")
		fs.StringVar(&prefix, "prefix", "", "")
		fs.StringVar(&after, "after", "", "")
		fs.IntVar(&limit, "limit", 100, "")
	})
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return fmt.Errorf("sessions: say list, show or kick; see holdline help\n%w", errUsage)
	}
	do, rest := rest[0], rest[1:]
	want := []string{"SESSION"}
	if do == "list" {
		want = nil
	}
	if err := wantArgs(rest, want...); err != nil {
		return err
	}
	o, err := c.operator()
	if err != nil {
		return err
	}
	switch do {
	case "list":
		q := url.Values{"limit": {strconv.Itoa(limit)}, "after": {after}, "prefix": {prefix}}
		if away {
			q.Set("state", "all")
		}
		var page sessions.Page
		if err := o.call(ctx, http.MethodGet, "?"+q.Encode(), &page); err != nil {
			return err
		}
		return printSessions(page, out)
	case "show":
		var s broker.SessionState
		if err := o.call(ctx, http.MethodGet, "/"+rest[0], &s); err != nil {
			return err
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	case "kick":
		query := ""
		if forget {
			query = "?forget=true"
		}
		if err := o.call(ctx, http.MethodDelete, "/"+rest[0]+query, nil); err != nil {
			return err
		}
		fmt.Fprintln(out, "done")
		return nil
	}
	return fmt.Errorf("sessions %q is not list, show or kick\n%w", do, errUsage)
}

func printSessions(p sessions.Page, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SESSION\tSTATE\tSINCE\tPROTOCOL\tFROM\tWINDOW\tLAG\tSUBSCRIPTIONS")
	for _, s := range p.Sessions {
		state, since, protocol, window := "away", "-", "-", "-"
		if s.Online {
			state, protocol = "online", s.Protocol+"/"+s.Transport
			window = fmt.Sprintf("%d/%d", s.Window, s.Limit)
		}
		if !s.Since.IsZero() {
			since = s.Since.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", s.Session, state, since, protocol, firstOf(s.Address, "-"), window, s.Lag, len(s.Subscriptions))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if p.Next != "" {
		fmt.Fprintf(out, "more: --after %s\n", p.Next)
	}
	return nil
}

// operator speaks to the running process in the name of the command line.
type operator struct{ url, token string }

// operator finds the process that serves the data directory.
func (c Config) operator() (*operator, error) {
	b, err := os.ReadFile(filepath.Join(c.Data, addressesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no holdline is serving %s", c.Data)
	}
	if err != nil {
		return nil, err
	}
	var at addresses
	if err := json.Unmarshal(b, &at); err != nil {
		return nil, fmt.Errorf("%s: %w", addressesFile, err)
	}
	host, port, err := net.SplitHostPort(at.HTTP)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addressesFile, err)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost" // it listens everywhere
	}
	keys, err := c.keys()
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	t, err := keys.Issue(token.Claims{
		Account: chat.Account{Tenant: chat.DefaultTenant, Role: chat.Service, Subject: "cli"}, Issued: now, Expires: now.Add(time.Minute),
	})
	return &operator{"http://" + net.JoinHostPort(host, port) + sessions.Path, t}, err
}

const operatorPatience = 30 * time.Second

// call asks, and decodes the answer into v unless that is nil.
func (o *operator) call(ctx context.Context, method, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, o.url+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+o.token)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer a.Body.Close()
	if a.StatusCode >= 300 {
		var problem struct{ Detail string }
		if err := json.NewDecoder(io.LimitReader(a.Body, 64<<10)).Decode(&problem); err != nil || problem.Detail == "" {
			problem.Detail = a.Status
		}
		return errors.New(strings.TrimSpace(problem.Detail))
	}
	if v == nil {
		return nil
	}
	return json.NewDecoder(a.Body).Decode(v)
}
