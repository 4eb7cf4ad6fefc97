package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// callStore is the queue of a gateway with the API of OpenFaaS. A write is an asynchronous call, acknowledged by 202; it
// is stored if, later, its end is known: that it is done, or why it is a dead letter. Which call a number became is kept
// in a file beside the results, as only who sent it knows.
type callStore struct {
	address string
	file    string
	client  *http.Client
	within  time.Duration // how long the end of a call may take to be known

	mutex sync.Mutex
}

// A call's state is kept for an hour and lags behind its end by what a lost worker's call waits for.
const callsEndWithin = 150 * time.Second

func newCalls(address *url.URL, o options) (store, error) {
	web := *address
	web.Scheme = "http"
	transport, err := httpTransport(o)
	if err != nil {
		return nil, err
	}
	return &callStore{address: strings.TrimSuffix(web.String(), "/"), file: filepath.Join(filepath.Dir(o.output), "calls"), client: &http.Client{Transport: transport}, within: callsEndWithin}, nil
}

// user spreads the numbers over callers, and so over the queue's lanes.
func user(run, seq string) string {
	number, _ := strconv.Atoi(seq)
	return fmt.Sprintf("drill-%s-%d", run, number%20)
}

func (s *callStore) ask(ctx context.Context, method, path, run, seq, body string) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.address+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("X-User-Id", user(run, seq))
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response, content, err
}

func (s *callStore) ready(ctx context.Context) error {
	for {
		response, _, err := s.ask(ctx, http.MethodGet, "/healthz", "", "0", "")
		if err == nil && response.StatusCode == http.StatusOK {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the gateway does not answer: %w", ctx.Err())
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (s *callStore) write(ctx context.Context, run, seq string) error {
	number, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return err
	}
	body := fmt.Sprintf(`{"request_id": "00000000-0000-4000-8000-%012d", "params": {}, "context": {}, "script_content": "result = 1"}`, number)
	response, content, err := s.ask(ctx, http.MethodPost, "/async-function/python-runtime/execute", run, seq, body)
	if err != nil {
		return err
	}
	id := response.Header.Get("X-Call-Id")
	if response.StatusCode != http.StatusAccepted || id == "" {
		return fmt.Errorf("%d %.200s", response.StatusCode, content)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	file, err := os.OpenFile(s.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s %s %s\n", run, seq, id)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

func (s *callStore) stored(ctx context.Context, run string, count uint64, found func(uint64)) error {
	file, err := os.Open(s.file)
	if err != nil {
		return err
	}
	defer file.Close()
	waiting := map[string]string{} // number by call
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if number, err := strconv.ParseUint(fields[1], 10, 64); fields[0] == run && err == nil && number < count {
			waiting[fields[2]] = fields[1]
		}
	}
	for end := time.Now().Add(s.within); len(waiting) > 0; {
		for id, seq := range waiting {
			response, content, err := s.ask(ctx, http.MethodGet, "/async-function/"+id, run, seq, "")
			if err != nil || response.StatusCode != http.StatusOK {
				continue // once more, unless time is up
			}
			var state struct{ State, Reason string }
			if json.Unmarshal(content, &state) == nil && (state.State == "done" || state.State == "dead" && state.Reason != "") {
				number, _ := strconv.ParseUint(seq, 10, 64)
				found(number)
				delete(waiting, id)
			}
		}
		if time.Now().After(end) {
			return nil
		}
		if len(waiting) > 0 {
			time.Sleep(500 * time.Millisecond)
		}
	}
	return nil
}

// What became of a call goes by itself within the hour.
func (s *callStore) forget(context.Context, string, uint64) error { return nil }
