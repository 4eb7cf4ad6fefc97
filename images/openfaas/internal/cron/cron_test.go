package cron

import (
	"context"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

func TestWhatIsDueRunsAtItsMinute(t *testing.T) {
	var ran []string
	clock := &Clock{
		Each: func(visit func(types.FunctionStatus)) {
			for name, schedule := range map[string]string{"fives": "*/5 * * * *", "daily": "30 4 * * *", "broken": "now and then"} {
				visit(types.FunctionStatus{Name: name, Namespace: "fn", Annotations: &map[string]string{"topic": "cron-function", "schedule": schedule}})
			}
		},
		Target: func(_ context.Context, qualified, _ string) (*functions.Target, error) {
			return &functions.Target{Name: qualified}, nil
		},
		Run: func(_ context.Context, target *functions.Target, _ time.Time) error {
			ran = append(ran, target.Name)
			return nil
		},
	}
	minute := func(hour, minute int) time.Time { return time.Date(2026, 11, 30, hour, minute, 0, 0, time.UTC) }
	for at, expected := range map[time.Time]int{minute(4, 29): 0, minute(4, 30): 2, minute(4, 31): 0, minute(4, 35): 1} {
		ran = nil
		clock.Due(t.Context(), at)
		if len(ran) != expected {
			t.Errorf("at %s ran %v, expected %d", at, ran, expected)
		}
	}
}
