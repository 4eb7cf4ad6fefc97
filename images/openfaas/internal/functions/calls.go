package functions

import (
	"fmt"

	"github.com/robfig/cron/v3"
)

const (
	// NotStarted is the header of an answer that says: the function has not begun, so the call may be made again.
	NotStarted = "X-Call-Not-Started"
	// KindAnnotation says in a list what kind of function it is.
	KindAnnotation = "openfaas.lambda-microservice.platform/kind"
)

// Annotations that say how asynchronous calls are made.
const (
	RetryAttempts = "com.openfaas.retry.attempts"
	RetryCodes    = "com.openfaas.retry.codes"
	RetryMinWait  = "com.openfaas.retry.min_wait"
	RetryMaxWait  = "com.openfaas.retry.max_wait"
	MaxInflight   = "com.openfaas.queue.max_inflight"
)

// Schedule reads five fields, or @hourly and the like, in UTC. @every has no fixed times, which several gateways need to
// mean the same run, and is refused.
func Schedule(text string) (cron.Schedule, error) {
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("annotation schedule is %q, expected five fields as in */5 * * * *: %w", text, err)
	}
	if _, every := schedule.(cron.ConstantDelaySchedule); every {
		return nil, fmt.Errorf("annotation schedule is %q, expected five fields as in */5 * * * *", text)
	}
	return schedule, nil
}
