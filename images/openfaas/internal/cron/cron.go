// Package cron calls functions by the clock.
package cron

import (
	"context"
	"log/slog"
	"time"

	"github.com/openfaas/faas-provider/types"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

// A Clock runs what is due, at each whole minute. What was due while no gateway ran is not made up for.
type Clock struct {
	Each   func(visit func(types.FunctionStatus))
	Target func(ctx context.Context, qualified, user string) (*functions.Target, error)
	// Run is called by every gateway, for the same minute; it makes of them one run.
	Run func(ctx context.Context, target *functions.Target, at time.Time) error
}

// Watch runs until the context ends.
func (c *Clock) Watch(ctx context.Context) {
	for {
		next := time.Now().UTC().Truncate(time.Minute).Add(time.Minute)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
			c.Due(ctx, next)
		}
	}
}

// Due runs what is due at a minute.
func (c *Clock) Due(ctx context.Context, at time.Time) {
	c.Each(func(function types.FunctionStatus) {
		schedule, err := functions.Schedule((*function.Annotations)["schedule"])
		if err != nil || !schedule.Next(at.Add(-time.Second)).Equal(at) {
			return
		}
		target, err := c.Target(ctx, function.Name+"."+function.Namespace, "")
		if err == nil {
			err = c.Run(ctx, target, at)
		}
		if err != nil {
			slog.Error("a scheduled run is not queued", "function", function.Name, "namespace", function.Namespace, "at", at, "error", err)
		}
	})
}
