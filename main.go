// Holdline is a customer-support messaging backend for mobile apps, built on
// MQTT: phones, desks and field devices speak to one embedded broker, what
// they say is never lost, is stored as conversations, and reaches the right agent.
//
// This package holds the commands, the configuration and the wiring of the
// parts; each part is a package of its own. It decides nothing about chat.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"holdline/broker/token"
	"holdline/chat"
)

// version is set by the build (-ldflags "-X main.version=…"); else it is the
// commit the toolchain noted.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // the second signal ends the process in the ordinary way
	}()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, strings.TrimSuffix(err.Error(), "\n"+errUsage.Error()))
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "holdline:", err)
		os.Exit(1)
	}
}

// errUsage marks a command line that cannot be understood.
var errUsage = errors.New("see holdline help")

const usage = `holdline: customer-support messaging on MQTT

  holdline [serve]                          run everything (settings: holdline check)
  holdline check                            show the effective settings and every fault
  holdline migrate [--restored]             bring the storage to this version's schema;
                                            --restored after restoring a backup of it
  holdline token ROLE NAME [--device D] [--name N] [--ttl 24h] [--tenant T]
                                            issue a token; ROLE is customer, agent, device or service
  holdline agent add NAME [--display N] [--password P] [--capacity 5]
  holdline agent list
  holdline agent password NAME [--password P]
  holdline agent disable NAME               (enable takes the agent back)
  holdline sessions list [--all] [--prefix main/customer/] [--limit 100] [--after SESSION]
  holdline sessions show SESSION            of the running server; SESSION as the list has it
  holdline sessions kick SESSION [--forget] end its connection; --forget ends the session, too
  holdline chat NAME [--server HOST:PORT] [--device D] [--new] [--wait 30s]
                                            a terminal phone, as customer NAME
  holdline version

Settings are flags, HOLDLINE_… in the environment, or lines in DATA/holdline.toml; holdline check
shows those in force.

`

// run executes one command line; help is the answer to --help anywhere in it.
func run(ctx context.Context, args []string, out io.Writer) error {
	err := command(ctx, args, out)
	if errors.Is(err, flag.ErrHelp) {
		help(out)
		return nil
	}
	return err
}

// help prints the commands, and the settings with what they mean.
func help(out io.Writer) {
	fmt.Fprint(out, usage)
	for _, s := range settings {
		fmt.Fprintf(out, "  --%-16s %s", s.name, s.doc)
		if s.fallback != "" && s.fallback != "false" {
			fmt.Fprintf(out, " (default %s)", s.fallback)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "  --%-16s %s\n", "config", configDoc)
}

func command(ctx context.Context, args []string, out io.Writer) error {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	switch name {
	case "serve":
		return serveCommand(ctx, args, out)
	case "check":
		c, rest, err := loadConfig(name, args, os.Getenv, nil)
		c.show(out)
		return cmp.Or(err, wantArgs(rest))
	case "migrate":
		return migrateCommand(ctx, args, out)
	case "token":
		return tokenCommand(args, out)
	case "agent":
		return agentCommand(ctx, args, out)
	case "sessions":
		return sessionsCommand(ctx, args, out)
	case "chat":
		return runChat(ctx, args, out)
	case "version":
		fmt.Fprintln(out, "holdline", buildVersion())
		return nil
	case "help":
		help(out)
		return nil
	}
	return fmt.Errorf("%q is not a command; see holdline help\n%w", name, errUsage)
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "development"
}

// wantArgs checks what was no flag.
func wantArgs(rest []string, want ...string) error {
	if len(rest) == len(want) {
		return nil
	}
	wanted, got := cmp.Or(strings.Join(want, " "), "nothing"), cmp.Or(strings.Join(rest, " "), "nothing")
	return fmt.Errorf("want %s after the command, got %s; see holdline help\n%w", wanted, got, errUsage)
}

func serveCommand(ctx context.Context, args []string, out io.Writer) error {
	c, rest, err := loadConfig("serve", args, os.Getenv, nil)
	if err != nil {
		return err
	}
	if err := wantArgs(rest); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	return serve(ctx, c, log, out)
}

func migrateCommand(ctx context.Context, args []string, out io.Writer) error {
	var restored bool
	c, rest, err := loadConfig("migrate", args, os.Getenv, func(fs *flag.FlagSet) {
		fs.BoolVar(&restored, "restored", false, "")
	})
	if err != nil {
		return err
	}
	if err := wantArgs(rest); err != nil {
		return err
	}
	if err := c.migrate(ctx); err != nil {
		return err
	}
	if restored {
		store, err := c.openStore(ctx, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer store.Close()
		old, err := store.Incarnation(ctx)
		if err != nil {
			return err
		}
		now, err := store.Renew(ctx, old)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "storage is a restored backup: event numbers go on as %s-…, and every client will sync anew\n", now)
	}
	fmt.Fprintln(out, "storage is at this version's schema")
	return nil
}

func tokenCommand(args []string, out io.Writer) error {
	var device, name, tenant string
	var ttl time.Duration
	c, rest, err := loadConfig("token", args, os.Getenv, func(fs *flag.FlagSet) {
		fs.StringVar(&device, "device", "", "")
		fs.StringVar(&name, "name", "", "")
		fs.StringVar(&tenant, "tenant", string(chat.DefaultTenant), "")
		fs.DurationVar(&ttl, "ttl", 24*time.Hour, "")
	})
	if err != nil {
		return err
	}
	if err := wantArgs(rest, "ROLE", "NAME"); err != nil {
		return err
	}
	if ttl <= 0 {
		return fmt.Errorf("ttl: a token for %s would never be good; write 15m or 24h\n%w", ttl, errUsage)
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	t, err := keys.Issue(token.Claims{
		Account: chat.Account{Tenant: chat.Tenant(tenant), Role: chat.Role(rest[0]), Subject: rest[1]},
		Device:  device, Name: name, Issued: now, Expires: now.Add(ttl),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, t)
	return nil
}
