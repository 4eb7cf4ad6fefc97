// Package service runs a program's HTTP servers, and ends them so that nobody's request is cut off.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Service is a program with its probes and metrics.
type Service struct {
	// Handler is served at Address; nil for a program without an API.
	Handler                 http.Handler
	Address, MetricsAddress string
	Registry                *prometheus.Registry
	// Ready says why the program should get no requests; nil where it should.
	Ready func() error
	// Delay is how long requests are still taken after the program was told to end: others hear of it only then.
	Delay time.Duration
	// Grace is how long requests under way may take after that.
	Grace time.Duration

	draining atomic.Bool
}

// Run serves until the process is told to end (SIGTERM, SIGINT). `work` is ended after the last request has been.
func (s *Service) Run(ctx context.Context, work func(ctx context.Context)) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	return s.RunUntil(ctx, work)
}

// RunUntil serves until the context ends.
func (s *Service) RunUntil(told context.Context, work func(ctx context.Context)) error {
	own := http.NewServeMux()
	own.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}))
	own.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") })
	own.HandleFunc("GET /ready", s.ready)
	servers := []*http.Server{{Addr: s.MetricsAddress, Handler: own, ReadHeaderTimeout: 10 * time.Second}}
	if s.Handler != nil {
		// Bodies and answers may take as long as the function's limit lets them; only headers have to come at once.
		servers = append(servers, &http.Server{Addr: s.Address, Handler: s.last(s.Handler), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second})
	}
	failed := make(chan error, len(servers))
	for _, server := range servers {
		listener, err := net.Listen("tcp", server.Addr)
		if err != nil {
			return fmt.Errorf("cannot listen: %w", err)
		}
		go func() { failed <- server.Serve(listener) }()
	}
	working, end := context.WithCancel(context.WithoutCancel(told))
	defer end()
	done := make(chan struct{})
	go func() { defer close(done); work(working) }()

	select {
	case err := <-failed:
		return err
	case <-told.Done():
	}
	s.draining.Store(true)
	slog.Info("told to end; requests are served for a while", "delay", s.Delay.String())
	time.Sleep(s.Delay)
	if s.Handler == nil {
		end() // no requests, but work that is under way
	}
	late, cancel := context.WithTimeout(context.Background(), s.Grace)
	defer cancel()
	var err error
	for _, server := range servers[1:] {
		err = errors.Join(err, server.Shutdown(late))
	}
	end()
	select {
	case <-done:
	case <-late.Done():
		err = errors.Join(err, errors.New("work that was under way did not end in time"))
	}
	_ = servers[0].Close()
	return err
}

func (s *Service) ready(w http.ResponseWriter, _ *http.Request) {
	err := s.Ready()
	if s.draining.Load() {
		err = errors.New("shutting down")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// last has clients leave a connection that will be closed soon.
func (s *Service) last(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
			// By this a balancer learns that it should send others elsewhere.
			if r.URL.Path == "/healthz" {
				http.Error(w, "shutting down", http.StatusServiceUnavailable)
				return
			}
		}
		handler.ServeHTTP(w, r)
	})
}
