// Package proxy leads calls to functions: streams both ways, upgrades, and what the caller and the platform say in headers.
package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/metrics"
)

// margin is how much longer the gateway waits than the function's own limit: the innermost must end first. The edge
// waits two seconds more.
const margin = 3 * time.Second

// A Proxy serves /function/NAME[.NAMESPACE][/PATH].
type Proxy struct {
	Target    func(ctx context.Context, qualified, user string) (*functions.Target, error)
	Transport http.RoundTripper
	Calls     *metrics.Calls
	// Margin replaces the three seconds; for tests.
	Margin time.Duration
}

// Split takes the name out of /PREFIX/NAME[/PATH]; the path stays as the caller has escaped it.
func Split(escaped, prefix string) (name, path string) {
	name, path, found := strings.Cut(strings.TrimPrefix(escaped, prefix), "/")
	if found {
		path = "/" + path
	}
	return name, path
}

var functionName = regexp.MustCompile(`^[-a-zA-Z_0-9.]{1,192}$`)

// ErrName is the answer to a name that no function can have.
func ErrName(name string) error {
	if functionName.MatchString(name) {
		return nil
	}
	return functions.Refuse(http.StatusBadRequest, "the function's name is %q, expected letters, digits, -, _ and .", name)
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	name, path := Split(r.URL.EscapedPath(), "/function/")
	if err := ErrName(name); err != nil {
		refuse(w, err, true)
		return
	}
	target, err := p.Target(r.Context(), name, r.Header.Get("X-User-Id"))
	if err != nil {
		refuse(w, err, true)
		return
	}
	written := &answer{ResponseWriter: w}
	// Else net/http reads the whole body before the first byte of the answer. HTTP/2 needs and knows nothing of it.
	_ = http.NewResponseController(w).EnableFullDuplex()
	end := p.Calls.Begin(target.Label())
	if target.Called != nil {
		defer target.Called()()
	}
	callID := r.Header.Get("X-Call-Id")
	if !callIDs.MatchString(callID) {
		callID = NewID()
	}
	defer func() {
		broken := recover() // http.ErrAbortHandler: the answer had begun and could not be ended
		status := written.status
		if status == 0 {
			status = 499 // the caller went away
		}
		end(status)
		slog.Info("call", "function", target.Label(), "method", r.Method, "status", status, "broken", broken != nil,
			"duration_ms", time.Since(began).Milliseconds(), "call_id", callID, "trace", r.Header.Get("Traceparent"))
		if broken != nil {
			panic(broken)
		}
	}()
	w.Header().Set("X-Call-Id", callID)
	w.Header().Set("X-Start-Time", strconv.FormatInt(began.UnixNano(), 10))

	wait := p.Margin
	if wait == 0 {
		wait = margin
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	timer := time.AfterFunc(target.Timeout+wait, func() {
		cancel(functions.Refuse(http.StatusGatewayTimeout, "the function %s did not end within %s", target.Label(), target.Timeout+wait))
	})
	defer timer.Stop()
	r = r.WithContext(ctx)

	if target.Wake != nil {
		waking, stop := context.WithTimeout(ctx, target.Timeout)
		err := target.Wake(waking)
		stop()
		if err != nil {
			refuse(written, err, true)
			return
		}
	}
	transport := target.Transport
	if transport == nil {
		transport = &sentOnce{p.Transport, target.Wake != nil}
	}
	reverse := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // what the function writes is the caller's at once
		ErrorLog:      slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		Rewrite:       func(call *httputil.ProxyRequest) { p.rewrite(call, target, path, callID, began) },
		ModifyResponse: func(response *http.Response) error {
			if response.StatusCode == http.StatusSwitchingProtocols {
				written.status = response.StatusCode // which is written past it
				timer.Stop()                         // an upgraded connection lasts as long as its ends want
			}
			if target.Transport == nil {
				response.Header.Del(functions.NotStarted) // only the platform can say so
			}
			response.Header.Del("X-Call-Id")
			response.Header.Del("X-Start-Time")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if why := context.Cause(ctx); why != nil && ctx.Err() != nil {
				if refusal, ok := errors.AsType[*functions.Error](why); ok {
					refuse(w, refusal, false)
				}
				return // the caller is not there any more
			}
			p.failed(w, target, err)
		},
	}
	reverse.ServeHTTP(written, r)
}

// failed tells what a caller can do: nothing ran, or something may have.
func (p *Proxy) failed(w http.ResponseWriter, target *functions.Target, err error) {
	if refusal, ok := errors.AsType[*functions.Error](err); ok {
		refuse(w, refusal, true)
		return
	}
	if neverSent(err) {
		w.Header().Set("Retry-After", "1")
		refuse(w, functions.Refuse(http.StatusServiceUnavailable, "the function %s cannot be reached, and has not been called: %s", target.Label(), cause(err)), true)
		return
	}
	refuse(w, functions.Refuse(http.StatusBadGateway, "the function %s was called and gave no answer that can be read: %s; it may have run", target.Label(), cause(err)), false)
}

// cause is without addresses of the cluster.
func cause(err error) string {
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return "the name of its Service: " + name.Err
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		return operation.Op + ": " + operation.Err.Error()
	}
	return err.Error()
}

func (p *Proxy) rewrite(call *httputil.ProxyRequest, target *functions.Target, path, callID string, began time.Time) {
	in, out := call.In, call.Out
	out.URL.Scheme, out.URL.Host = target.URL.Scheme, target.URL.Host
	if path == "" {
		path = "/"
	}
	out.URL.Path, out.URL.RawPath = path, ""
	if plain, err := url.PathUnescape(path); err == nil {
		out.URL.Path, out.URL.RawPath = plain, path // as the caller has escaped it
	}
	out.Host = ""
	out.URL.RawQuery = in.URL.RawQuery // as it came: Rewrite leaves out what cannot be parsed

	// The edge has said who the caller is and where from, and only the platform's own reach the gateway. What the edge's
	// last hop was is nothing that a function could use, and would make all callers one.
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := in.Header[name]; len(values) > 0 {
			out.Header[name] = values
		}
	}
	address, _, _ := net.SplitHostPort(in.RemoteAddr)
	setDefault(out.Header, "X-Forwarded-For", address)
	setDefault(out.Header, "X-Forwarded-Host", in.Host)
	setDefault(out.Header, "X-Forwarded-Proto", "http")

	if !traceparent.MatchString(in.Header.Get("Traceparent")) {
		out.Header.Set("Traceparent", "00-"+random(16)+"-"+random(8)+"-00")
		out.Header.Del("Tracestate")
	}
	out.Header.Set("X-Call-Id", callID)
	out.Header.Set("X-Start-Time", strconv.FormatInt(began.UnixNano(), 10))
	// The runtimes believe these: who may have whose process again, whose share of the places it takes, and what the log calls it.
	out.Header.Del("X-Caller")
	out.Header.Del("X-Account")
	out.Header.Del("X-Function")
	if target.Runtime {
		account := Account(out.Header)
		out.Header.Set("X-Account", account)
		if user := out.Header.Get("X-User-Id"); user != "" {
			out.Header.Set("X-Caller", account)
		}
	}
}

// Account is the user, or without one the address that the edge saw, as the controller names them.
func Account(header http.Header) string {
	if user := header.Get("X-User-Id"); user != "" {
		return "user " + user
	}
	forwarded := header.Get("X-Forwarded-For")
	return "anonymous " + strings.TrimSpace(forwarded[strings.LastIndexByte(forwarded, ',')+1:])
}

func setDefault(header http.Header, name, value string) {
	if header.Get(name) == "" {
		header.Set(name, value)
	}
}

var (
	traceparent = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}`)
	callIDs     = regexp.MustCompile(`^[0-9a-f-]{36}$`)
)

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// NewID is a random UUID.
func NewID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Refuse answers with an Error's status and its line, as faas-cli prints it.
func Refuse(w http.ResponseWriter, err error) { refuse(w, err, false) }

func refuse(w http.ResponseWriter, err error, notStarted bool) {
	if notStarted {
		w.Header().Set(functions.NotStarted, "true")
	}
	w.Header().Del("Content-Length")
	http.Error(w, err.Error(), functions.StatusOf(err))
}

// An answer remembers its status. The server's own abilities (flush, hijack, deadlines) are behind Unwrap.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}
