package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"holdline/broker/client"
	"holdline/broker/token"
	"holdline/chat"
)

// chatTTL is how long the tokens are good that a terminal phone issues to
// itself; the client fetches a new one when the server wants it.
const chatTTL = time.Hour

// runChat is `holdline chat NAME`: a terminal phone. On a terminal it shows the
// conversation and takes what is typed; from a pipe it says every line, waits
// until all is accepted, and fails when something was refused.
func runChat(ctx context.Context, args []string, out io.Writer) error {
	return runChatWith(ctx, args, os.Stdin, out)
}

func runChatWith(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	var server, device string
	var fresh bool
	var patience time.Duration
	c, rest, err := loadConfig("chat", args, os.Getenv, func(fs *flag.FlagSet) {
		fs.StringVar(&server, "server", "", "")
		fs.StringVar(&device, "device", "terminal", "")
		fs.BoolVar(&fresh, "new", false, "")
		fs.DurationVar(&patience, "wait", 30*time.Second, "")
	})
	if err != nil {
		return err
	}
	if err := wantArgs(rest, "NAME"); err != nil {
		return err
	}
	who := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: rest[0]}
	if err := errors.Join(who.Validate(), (chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: device}).Validate()); err != nil {
		return err
	}
	if !exists(filepath.Join(c.Data, "token.key")) {
		return fmt.Errorf("%s has no token key; start the server there once, or name its directory with --data", c.Data)
	}
	keys, err := loadKeys(c.Data)
	if err != nil {
		return err
	}
	if _, err := chatAddress(c.Data, server); err != nil {
		return err
	}
	cfg := chatConfig(keys, c.Data, server, who, device)
	dir := filepath.Join(c.Data, "phones", pathName(who.Subject), pathName(device))
	screen := newChatScreen(out, who.Subject, time.Local, nil)
	if fresh {
		if err := forgetChat(dir, cfg, screen); err != nil {
			return err
		}
	}
	p, err := openChat(dir, cfg, screen)
	if err != nil {
		return err
	}
	err = p.talk(ctx, in, out, patience)
	if errors.Is(err, client.ErrTakenOver) {
		err = fmt.Errorf("%w; choose another name with --device", err)
	}
	return errors.Join(err, p.close())
}

// chatConfig is a client that issues its own tokens and finds the server that
// serves data, unless server names one.
func chatConfig(keys *token.Keys, data, server string, who chat.Account, device string) client.Config {
	return client.Config{
		Subject: who.Subject, Device: device, Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context) (net.Conn, error) {
			addr, err := chatAddress(data, server) // each time: a server that was started again may be elsewhere
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		},
		Token: func(context.Context) (string, error) {
			now := time.Now().UTC()
			return keys.Issue(token.Claims{Account: who, Device: device, Name: who.Subject, Issued: now, Expires: now.Add(chatTTL)})
		},
	}
}

// talk is the conversation with whatever in is.
func (p *chatPhone) talk(ctx context.Context, in io.Reader, out io.Writer, patience time.Duration) error {
	tty, ok := openTerminal(in, out)
	if !ok {
		err := p.run(ctx, p.pipe(in, patience))
		if p.refused > 0 {
			return errors.Join(err, fmt.Errorf("%d of the messages refused", p.refused))
		}
		return err
	}
	defer tty.restore()
	if tty.size != nil {
		p.screen.size = tty.size
	}
	p.screen.note(time.Now(), "chatting as "+clean(p.screen.me)+"; a line is a message, ^D ends")
	return p.run(ctx, p.converse(in))
}

// chatAddress is where the server listens.
func chatAddress(data, server string) (string, error) {
	if server != "" {
		if _, _, err := net.SplitHostPort(server); err != nil {
			return "", fmt.Errorf("server: %q is not an address; write HOST:PORT", server)
		}
		return server, nil
	}
	file := filepath.Join(data, addressesFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("no server runs on %s (it has no %s); start it, or say --server HOST:PORT", data, addressesFile)
	}
	if err != nil {
		return "", err
	}
	var at addresses
	if err := json.Unmarshal(b, &at); err != nil || at.MQTT == "" {
		return "", fmt.Errorf("%s does not tell an MQTT address: %w", file, cmp.Or(err, errors.New("it is empty")))
	}
	return at.MQTT, nil
}

// forgetChat removes what a terminal phone remembers. The server has all that
// was sent; what was not is lost, so that is told.
func forgetChat(dir string, cfg client.Config, screen *chatScreen) error {
	p, err := openChat(dir, cfg, screen) // nobody else may have it open
	if err != nil {
		return err
	}
	if n := len(p.client.Pending()); n > 0 {
		screen.note(time.Now(), fmt.Sprintf("forgetting the outbox with %d messages", n))
	}
	return errors.Join(p.close(), os.RemoveAll(dir))
}

// pathName makes a file name of any subject or device.
func pathName(s string) string {
	name := url.PathEscape(s)
	switch {
	case name == "." || name == "..":
		return "%" + name
	case len(name) > maxPathName:
		sum := sha256.Sum256([]byte(s))
		return name[:maxPathName] + "-" + hex.EncodeToString(sum[:8])
	}
	return name
}

// maxPathName is well within what file systems take.
const maxPathName = 100
