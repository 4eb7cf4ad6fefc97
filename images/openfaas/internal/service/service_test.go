package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestAProgramThatIsToldToEndServesWhatItHasAndWhatStillComes(t *testing.T) {
	began, workEnded := make(chan struct{}), make(chan struct{})
	var isReady atomic.Bool
	s := &Service{
		Address: free(t), MetricsAddress: free(t), Registry: prometheus.NewRegistry(), Delay: 300 * time.Millisecond, Grace: 5 * time.Second,
		Ready: func() error {
			if !isReady.Load() {
				return errors.New("not yet")
			}
			return nil
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(began)
				time.Sleep(time.Second)
				select {
				case <-workEnded:
					fmt.Fprint(w, "the work ended before its requests")
					return
				default:
				}
			}
			fmt.Fprint(w, "whole")
		}),
	}
	told, tell := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.RunUntil(told, func(ctx context.Context) { <-ctx.Done(); close(workEnded) }) }()
	get := func(address string) (int, bool, string) {
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			response, err := http.Get("http://" + address)
			if err != nil {
				if time.Now().After(end) {
					t.Error(err)
					return 0, false, ""
				}
				continue
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			return response.StatusCode, response.Close, string(body)
		}
	}
	if status, _, body := get(s.MetricsAddress + "/ready"); status != 503 || body != "not yet\n" {
		t.Errorf("%d %s", status, body)
	}
	isReady.Store(true)
	if status, _, _ := get(s.MetricsAddress + "/ready"); status != 200 {
		t.Error(status)
	}
	slow := make(chan string, 1)
	go func() { _, _, body := get(s.Address + "/slow"); slow <- body }()
	<-began
	tell()
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		if status, _, _ := get(s.MetricsAddress + "/ready"); status == 503 {
			break
		}
	}
	if status, closes, body := get(s.Address + "/late"); status != 200 || body != "whole" || !closes {
		t.Errorf("a request that still came: %d %s, told to leave: %v", status, body, closes)
	}
	if status, _, _ := get(s.Address + "/healthz"); status != 503 {
		t.Errorf("a balancer that asks is told %d", status)
	}
	if body := <-slow; body != "whole" {
		t.Errorf("the request under way: %q", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
