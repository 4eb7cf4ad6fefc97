package containers

import (
	"bufio"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/logs"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

const (
	maxLogLine = 256 << 10
	// Followers of one request: more pods than this at once are not followed.
	maxFollowed = 50
)

// Logs reads the logs of a Deployment's pods, all replicas together, in time's order where nothing is followed.
type Logs struct{ *Containers }

// Query is the SDK's Requester. A follower also hears the pods that come after it.
func (l Logs) Query(ctx context.Context, request logs.Request) (<-chan logs.Message, error) {
	deployment := l.Deployment(request.Namespace, request.Name)
	if deployment == nil || deployment.Spec.Selector == nil {
		return nil, functions.Unknown(request.Namespace, request.Name)
	}
	selector := labels.SelectorFromSet(deployment.Spec.Selector.MatchLabels).String()
	// The container whose name is the Deployment's or ours; a sidecar's lines are not the function's.
	container := deployment.Spec.Template.Spec.Containers[0].Name
	found, err := l.list(ctx, request, selector)
	if err != nil {
		return nil, apiError("list", "Pods of", request.Name, err)
	}
	messages := make(chan logs.Message, 64)
	if !request.Follow {
		go func() {
			defer close(messages)
			l.past(ctx, request, container, found, messages)
		}()
		return messages, nil
	}
	go func() {
		var readers sync.WaitGroup
		defer close(messages)
		defer readers.Wait()
		known := map[string]bool{}
		for first := true; ; first = false {
			for _, pod := range found {
				if known[pod.Name] || len(known) >= maxFollowed || pod.Status.Phase == corev1.PodPending {
					continue
				}
				known[pod.Name] = true
				readers.Go(func() {
					one := request
					if !first { // what came after the request is wanted from its beginning
						one.Tail, one.Since = 0, nil
					}
					l.read(ctx, one, pod.Name, container, func(m logs.Message) { send(ctx, messages, m) })
				})
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Second):
			}
			if again, err := l.list(ctx, request, selector); err == nil {
				found = again
			}
		}
	}()
	return messages, nil
}

func send(ctx context.Context, to chan<- logs.Message, message logs.Message) {
	select {
	case to <- message:
	case <-ctx.Done():
	}
}

func (l Logs) list(ctx context.Context, request logs.Request, selector string) ([]corev1.Pod, error) {
	found, err := l.client.CoreV1().Pods(request.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found.Items, func(pod corev1.Pod) bool {
		return request.Instance != "" && pod.Name != request.Instance
	}), nil
}

// past has the last lines of all pods together, sorted by time.
func (l Logs) past(ctx context.Context, request logs.Request, container string, found []corev1.Pod, messages chan<- logs.Message) {
	var all []logs.Message
	for _, pod := range found {
		l.read(ctx, request, pod.Name, container, func(m logs.Message) { all = append(all, m) })
	}
	slices.SortStableFunc(all, func(a, b logs.Message) int { return a.Timestamp.Compare(b.Timestamp) })
	if request.Tail > 0 && len(all) > request.Tail {
		all = all[len(all)-request.Tail:]
	}
	for _, message := range all {
		send(ctx, messages, message)
	}
}

// read takes one pod's lines. A pod that cannot be read, for instance because it has gone meanwhile, has none.
func (l Logs) read(ctx context.Context, request logs.Request, pod, container string, each func(logs.Message)) {
	options := &corev1.PodLogOptions{Container: container, Follow: request.Follow, Timestamps: true}
	if request.Tail > 0 {
		options.TailLines = new(int64(request.Tail))
	} else if !request.Follow {
		options.LimitBytes = new(int64(8 << 20)) // all of it is held until it is sorted
	}
	if request.Since != nil {
		options.SinceTime = &metav1.Time{Time: *request.Since}
	}
	stream, err := l.client.CoreV1().Pods(request.Namespace).GetLogs(pod, options).Stream(ctx)
	if err != nil {
		return
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		stamp, text, _ := strings.Cut(lines.Text(), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			text = lines.Text()
		}
		each(logs.Message{Name: request.Name, Namespace: request.Namespace, Instance: pod, Timestamp: at, Text: text})
	}
}
