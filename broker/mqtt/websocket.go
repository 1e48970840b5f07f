package mqtt

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const (
	// subprotocol is MQTT's name on WebSocket [MQTT-6.0.0-3].
	subprotocol = "mqtt"
	// pingEvery keeps proxies from closing what looks idle; a peer that does not
	// answer in pongTime is gone.
	pingEvery = 25 * time.Second
	pongTime  = 10 * time.Second
	// frameBytes bounds one frame: the largest packet there is, and its header.
	frameBytes = 256<<10 + 8
)

// WebSocket serves MQTT over WebSocket: subprotocol "mqtt", binary frames. The
// web page that connects must be the server's own or one of Config.Origins;
// clients that are no browsers send no origin and are welcome.
//
// Connections belong to Run: before it and after it the answer is 503.
func (s *Server) WebSocket() http.Handler {
	options := &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, OriginPatterns: s.Origins, CompressionMode: websocket.CompressionDisabled,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		full := !s.running || len(s.conns) >= s.MaxConnections
		s.mu.Unlock()
		if full {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "no more connections now", http.StatusServiceUnavailable)
			return
		}
		ws, err := websocket.Accept(w, r, options)
		if err != nil {
			return // Accept has answered
		}
		if ws.Subprotocol() != subprotocol {
			_ = ws.Close(websocket.StatusPolicyViolation, `subprotocol "mqtt" is required`)
			return
		}
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		s.serveWebSocket(context.WithoutCancel(r.Context()), ws, s.AllowAnonymous && loopback(local))
	})
}

func (s *Server) serveWebSocket(ctx context.Context, ws *websocket.Conn, anonymous bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	nc := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	ws.SetReadLimit(frameBytes) // NetConn has lifted it
	c := s.enter(ctx, &stream{Conn: frames{nc, ws}}, anonymous)
	if c == nil {
		_ = ws.Close(websocket.StatusTryAgainLater, "no more connections now")
		return
	}
	pinging := make(chan struct{})
	go func() {
		defer close(pinging)
		ping(ctx, ws)
	}()
	c.serve()
	cancel()
	<-pinging
}

// ping sees to it that the peer is there.
func ping(ctx context.Context, ws *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		answer, cancel := context.WithTimeout(ctx, pongTime)
		err := ws.Ping(answer)
		cancel()
		if err != nil {
			_ = ws.CloseNow() // ends the reader
			return
		}
	}
}

// frames is a WebSocket as a socket.
type frames struct {
	net.Conn
	ws *websocket.Conn
}

// CloseWrite says goodbye in WebSocket's own words, and waits a few seconds for the answer.
func (f frames) CloseWrite() error { return f.ws.Close(websocket.StatusNormalClosure, "") }

// Close does not wait.
func (f frames) Close() error { return f.ws.CloseNow() }
