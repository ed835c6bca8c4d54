// Package server answers the agent's control API over HTTP.
//
// It listens on a unix socket whose permissions say who may command the agent.
// Whoever may is still not trusted to be quick or well-behaved: requests are
// bounded in size and time, the number of connections is bounded, and no
// request holds a lock that forwarding waits for.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// Backend does what requests ask for. Its errors are *api.Error; others are
// shown as internal errors.
type Backend interface {
	Status() api.Status

	Switches() api.SwitchList
	Switch(name string) (api.Switch, error)

	FDB(sw string) (api.FDB, error)
	FlushFDB(sw string) (api.Flushed, error)
	AddStatic(sw, mac, port string) error
	RemoveFDB(sw, mac string) error

	Port(name string) (api.Port, error)
	PutPort(name string, spec api.PortSpec) (p api.Port, created bool, err error)
	PatchPort(name string, spec api.PortSpec) (api.Port, error)
	DeletePort(name string, force bool) error

	VMs() api.VMList
	VM(name string) (api.VM, error)
	PutVM(name string, vm api.VM) (v api.VM, created bool, err error)
	DeleteVM(name string) error
}

// Limits of the server.
const (
	maxBody        = 64 << 10
	maxConns       = 128
	requestTimeout = 10 * time.Second
	idleTimeout    = time.Minute
)

// Server is the HTTP server of one agent.
type Server struct {
	http *http.Server
	log  *slog.Logger
}

// New makes a server for a backend.
func New(b Backend, log *slog.Logger) *Server {
	return &Server{
		log: log,
		http: &http.Server{
			Handler:           Handler(b, log),
			ReadHeaderTimeout: requestTimeout / 2,
			ReadTimeout:       requestTimeout,
			WriteTimeout:      requestTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
}

// Serve answers requests until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(limit(l, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve control API: %w", err)
}

// Shutdown ends the server: requests under way get until ctx ends.
func (s *Server) Shutdown(ctx context.Context) {
	if err := s.http.Shutdown(ctx); err != nil {
		s.log.Warn("control API requests were cut off", "error", err)
		s.http.Close()
	}
}

// handler answers one kind of request. A nil body is "no content".
type handler func(r *http.Request) (status int, body any, err error)

// Handler gives the API of a backend.
func Handler(b Backend, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	for pattern, methods := range routes(b) {
		for method, h := range methods {
			mux.Handle(method+" "+pattern, answer(h, log))
		}
		allowed := allow(methods)
		mux.Handle(pattern, answer(func(r *http.Request) (int, any, error) {
			return 0, nil, &api.Error{Code: api.CodeMethod, Message: fmt.Sprintf("%s is not possible here; allowed are %s", r.Method, allowed)}
		}, log))
	}
	mux.Handle("/", answer(func(r *http.Request) (int, any, error) {
		return 0, nil, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("there is nothing at %s in this version of the API", r.URL.Path)}
	}, log))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would send the client to the cleaned path, which is
		// another resource.
		if p := r.URL.EscapedPath(); path.Clean(p) != p {
			answer(func(*http.Request) (int, any, error) {
				return 0, nil, &api.Error{Code: api.CodeBadRequest, Message: fmt.Sprintf("path %q has empty or dot segments; escape them", p)}
			}, log).ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func allow(methods map[string]handler) string {
	var names []string
	for m := range methods {
		names = append(names, m)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// answer turns a handler's result into a response.
func answer(h handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, body, err := h(r)
		if err != nil {
			e := asAPIError(err)
			status, body = e.Code.Status(), api.ErrorBody{Error: e}
			log.Debug("request refused", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		if body == nil {
			w.WriteHeader(status)
			return
		}
		text, err := json.MarshalIndent(body, "", "  ")
		if err != nil {
			status, text = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"encode answer"}}`)
			log.Error("encoding an answer failed", "path", r.URL.Path, "error", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(append(text, '\n')) // the client may have gone
	})
}

func asAPIError(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return &api.Error{Code: api.CodeInternal, Message: err.Error()}
}

// decode reads a request's body: one JSON value with no field that v lacks.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something follows the JSON value")
		}
	}
	var (
		big   *http.MaxBytesError
		wrong *json.UnmarshalTypeError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &big):
		return &api.Error{Code: api.CodeTooLarge, Message: fmt.Sprintf("request body is longer than %d bytes", big.Limit)}
	case errors.As(err, &wrong):
		return &api.Error{Code: api.CodeBadRequest, Message: fmt.Sprintf("read request body: field %q cannot be a %s", wrong.Field, wrong.Value)}
	case errors.Is(err, io.EOF):
		return &api.Error{Code: api.CodeBadRequest, Message: "request body is empty; send a JSON object, {} at least"}
	}
	return &api.Error{Code: api.CodeBadRequest, Message: "read request body: " + strings.TrimPrefix(err.Error(), "json: ")}
}
