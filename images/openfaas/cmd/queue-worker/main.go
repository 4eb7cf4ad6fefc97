// queue-worker makes the calls that the gateway has queued. README.md names its variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"

	"lambda_microservice.platform/images/openfaas/internal/async"
	"lambda_microservice.platform/images/openfaas/internal/metrics"
	"lambda_microservice.platform/images/openfaas/internal/proxy"
	"lambda_microservice.platform/images/openfaas/internal/service"
	"lambda_microservice.platform/images/openfaas/internal/settings"
)

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "queue-worker:", err)
		os.Exit(78)
	}
}

func run(ctx context.Context) error {
	env := settings.FromEnvironment()
	address := net.JoinHostPort(env.Text("HOST", "0.0.0.0"), strconv.Itoa(env.Number("METRICS_PORT", 9090, 1, 65535)))
	gateway := env.URL("GATEWAY_URL", "http", "https")
	if gateway == nil && env.Text("GATEWAY_URL", "") == "" {
		env.Refuse("GATEWAY_URL", "", "http://HOST[:PORT] of the gateway")
	}
	nats := async.OptionsFrom(env)
	if nats.URL == "" {
		env.Refuse("NATS_URL", "", "nats://HOST[:PORT],... of the servers")
	}
	concurrency := env.Number("MAX_CONCURRENT_CALLS", 64, 1, 10000)
	patience := env.Seconds("PATIENCE_SECONDS", 10*time.Minute)
	longest := env.Seconds("FUNCTION_MAX_TIMEOUT_SECONDS", 30*time.Second)
	callbacks := async.CallbacksFrom(env)
	if err := env.Err(); err != nil {
		return err
	}
	store, err := async.Connect(ctx, nats, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	calls := metrics.New(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	worker := &async.Worker{
		Store: store, Gateway: gateway, Transport: proxy.NewTransport(), Callbacks: callbacks, Concurrency: concurrency,
		// The gateway waits 3 s longer than the function may take.
		Margin: 5 * time.Second, Patience: patience, Outcomes: calls.Async,
	}
	program := &service.Service{
		MetricsAddress: address, Registry: calls.Registry, Grace: longest + 40*time.Second, // with a callback's attempts
		Ready: func() error {
			if !store.Ready() {
				return errors.New("NATS is away")
			}
			return nil
		},
	}
	return program.Run(ctx, worker.Run)
}
