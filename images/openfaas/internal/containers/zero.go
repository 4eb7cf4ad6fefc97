package containers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/openfaas/faas-provider/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	apitypes "k8s.io/apimachinery/pkg/types"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

// How often a gateway writes down that a function is being called. All gateways read it, so a function that one of them
// calls is put to sleep by none. Must be well below the shortest idle time, which is a minute.
const noteEvery = 20 * time.Second

type activity struct {
	calls int
	noted time.Time
}

// called counts a call that begins, and returns what ends it.
func (c *Containers) called(label string) func() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	a := c.activity[label]
	if a == nil {
		a = &activity{}
		c.activity[label] = a
	}
	a.calls++
	return func() {
		c.mutex.Lock()
		a.calls--
		c.mutex.Unlock()
	}
}

// WatchIdle notes calls and puts functions to sleep that had none for long, until the context ends. Every gateway does
// it: whoever comes second finds the Deployment changed, and is refused.
func (c *Containers) WatchIdle(ctx context.Context) {
	for tick := time.NewTicker(noteEvery / 4); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.lookForIdle(ctx, time.Now())
		}
	}
}

func (c *Containers) lookForIdle(ctx context.Context, now time.Time) {
	for namespace, lister := range c.listers {
		deployments, err := lister.Deployments(namespace).List(labels.SelectorFromSet(labels.Set{managerLabel: manager}))
		if err != nil {
			continue
		}
		for _, deployment := range deployments {
			p, err := c.planOf(deployment)
			if err != nil || !p.zero || wanted(deployment) == 0 {
				continue
			}
			name := deployment.Name
			if c.noteDue(name+"."+namespace, now) {
				patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d"}}}`, calledAnnotation, now.Unix())
				if _, err := c.client.AppsV1().Deployments(namespace).Patch(ctx, name, apitypes.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
					slog.Warn("cannot note that a function is called", "function", name, "error", err)
				}
				continue
			}
			if now.Sub(called(deployment)) > p.idle && c.quiet(name+"."+namespace) {
				if err := c.setReplicas(ctx, namespace, name, 0, deployment.ResourceVersion); err == nil {
					slog.Info("a function sleeps", "function", name, "namespace", namespace, "idle", now.Sub(called(deployment)).String())
				} else if functions.StatusOf(err) != http.StatusConflict {
					slog.Warn("cannot put a function to sleep", "function", name, "error", err)
				}
			}
		}
	}
}

// noteDue says whether a function has been called here since it was last noted, and forgets it.
func (c *Containers) noteDue(label string, now time.Time) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	a := c.activity[label]
	if a == nil || now.Sub(a.noted) < noteEvery {
		return false
	}
	if a.calls == 0 && !a.noted.IsZero() {
		delete(c.activity, label)
	}
	a.noted = now
	return true
}

// quiet says that no call of a function is under way here, nor waits to be noted.
func (c *Containers) quiet(label string) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.activity[label] == nil
}

// wake has a function's first replicas started and waits for one. Calls that come together wait for one start.
func (c *Containers) wake(ctx context.Context, namespace, name string, least int32) error {
	started := c.wakes.DoChan(namespace+"/"+name, func() (any, error) {
		// As long as anybody may wait, whoever came first.
		lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.settings.MaxTimeout)
		defer cancel()
		if deployment := c.Deployment(namespace, name); deployment != nil && wanted(deployment) == 0 {
			if err := c.setReplicas(lasting, namespace, name, least, ""); err != nil {
				return nil, err
			}
		}
		for lasting.Err() == nil {
			deployment := c.Deployment(namespace, name)
			if deployment == nil {
				return nil, functions.Unknown(namespace, name)
			}
			if deployment.Status.AvailableReplicas > 0 {
				return nil, nil
			}
			time.Sleep(20 * time.Millisecond) // of the cache, which a watch fills
		}
		return nil, functions.Refuse(http.StatusServiceUnavailable, "the function %s.%s did not wake up in time", name, namespace)
	})
	select {
	case result := <-started:
		return result.Err
	case <-ctx.Done():
		why := ""
		if status, err := c.Get(context.WithoutCancel(ctx), namespace, name); err == nil {
			why = (*status.Annotations)[reasonAnnotation]
		}
		return functions.Refuse(http.StatusServiceUnavailable, "the function %s.%s did not wake up in time. %s", name, namespace, why)
	}
}

// Replicas reports how many replicas of each function take calls.
func (c *Containers) Replicas(report func(function string, available float64)) {
	for namespace, lister := range c.listers {
		deployments, err := lister.Deployments(namespace).List(labels.Everything())
		if err != nil {
			continue
		}
		for _, deployment := range deployments {
			if deployment.Labels[managerLabel] == manager || deployment.Labels["app.kubernetes.io/component"] == "runtime" {
				report(deployment.Name+"."+namespace, float64(deployment.Status.AvailableReplicas))
			}
		}
	}
}

// Scheduled calls visit for each function that has a schedule.
func (c *Containers) Scheduled(visit func(function types.FunctionStatus)) {
	for namespace := range c.listers {
		all, err := c.List(context.Background(), namespace)
		if err != nil {
			continue
		}
		for _, function := range all {
			if (*function.Annotations)["topic"] == "cron-function" {
				visit(function)
			}
		}
	}
}
