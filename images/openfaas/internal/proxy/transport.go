package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// NewTransport keeps connections to functions for less time than a function that ends goes on serving.
func NewTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConns:          4096,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       4 * time.Second,
		DisableCompression:    true, // the caller's business and the function's
		ExpectContinueTimeout: time.Second,
	}
}

// sentOnce calls again only where the call was never sent: no connection came about. A woken function's address may take
// a moment to lead to it.
type sentOnce struct {
	http.RoundTripper
	woken bool
}

func (s *sentOnce) RoundTrip(call *http.Request) (*http.Response, error) {
	var body *untouched
	attempt := call.Clone(call.Context())
	empty := call.Body == nil || call.Body == http.NoBody
	if empty && replayed(call) {
		// A body, even one without a byte, keeps net/http from it.
		attempt.Body, attempt.GetBody, attempt.ContentLength = io.NopCloser(eof{}), nil, 0
	} else if !empty {
		body = &untouched{ReadCloser: call.Body}
		attempt.Body = body
	}
	attempts, pause := 3, 100*time.Millisecond
	if s.woken {
		attempts = 50
	}
	for {
		response, err := s.RoundTripper.RoundTrip(attempt)
		attempts--
		if err == nil || attempts == 0 || !neverSent(err) || body != nil && body.read.Load() {
			return response, err
		}
		select {
		case <-call.Context().Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// replayed is true of requests that net/http sends again on its own, after they were sent, where a kept connection breaks:
// those that should do no harm. A function may do harm by GET.
func replayed(call *http.Request) bool {
	switch call.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return len(call.Header["Idempotency-Key"])+len(call.Header["X-Idempotency-Key"]) > 0
}

// neverSent is true of errors before a connection came about.
func neverSent(err error) bool {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "dial"
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// untouched knows whether a body's first byte was taken. The transport closes it after a failed attempt, which must not
// end it for the next one.
type untouched struct {
	io.ReadCloser
	read atomic.Bool
}

func (u *untouched) Read(b []byte) (int, error) {
	u.read.Store(true)
	return u.ReadCloser.Read(b)
}

func (u *untouched) Close() error {
	if u.read.Load() {
		return u.ReadCloser.Close()
	}
	return nil
}

// SentOnce makes a transport call again only where the call was never sent.
func SentOnce(transport http.RoundTripper) http.RoundTripper { return &sentOnce{transport, false} }

// NeverSent is true of errors before a connection came about.
func NeverSent(err error) bool { return neverSent(err) }
