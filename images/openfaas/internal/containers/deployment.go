package containers

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

const (
	reasonAnnotation = "openfaas.lambda-microservice.platform/reason"
	flowsAnnotation  = "openfaas.lambda-microservice.platform/flows"
)

// An Address is where a function's Service is.
type Address func(namespace, name string) *url.URL

// ClusterAddress is the Service's name in the cluster's DNS.
func ClusterAddress(namespace, name string) *url.URL {
	return &url.URL{Scheme: "http", Host: name + "." + namespace + ":8080"}
}

// Settings are what every container function gets.
type Settings struct {
	Memory, CPU         resource.Quantity
	Timeout, MaxTimeout time.Duration
	// User is the number that a container runs as. An image's own may be a name, which Kubernetes cannot tell from root's.
	User        int64
	PullSecrets []string
	// PreStop is how long a pod goes on serving after it has been told to end: it is taken out of the Service meanwhile.
	PreStop time.Duration
	Policy  Policy
}

// A Policy says who reaches the functions, and which ways out of them an annotation may open.
type Policy struct {
	Ingress []networkingv1.NetworkPolicyPeer                  `json:"ingress"`
	Flows   map[string][]networkingv1.NetworkPolicyEgressRule `json:"flows"`
}

// ReadPolicy reads a file of JSON. Without one, the gateway's pods alone reach functions.
func ReadPolicy(file string) (Policy, error) {
	if file == "" {
		return Policy{Ingress: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "openfaas"}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "gateway"}},
		}}}, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return Policy{}, err
	}
	var policy Policy
	if err = json.Unmarshal(content, &policy); err != nil {
		return policy, fmt.Errorf("%s: %w", file, err)
	}
	if len(policy.Ingress) == 0 {
		return policy, fmt.Errorf("%s names nobody in `ingress`: an empty list would let everybody reach the functions", file)
	}
	return policy, nil
}

// A plan is a deployment that has been looked at: what the request says in words and strings, as values.
type plan struct {
	request             types.FunctionDeployment
	labels, annotations map[string]string
	least, most         int32
	milliCPU            int64 // the HPA's target for a replica, 0 for a share of the request
	zero                bool
	idle                time.Duration
	timeout             time.Duration
	limits, requests    corev1.ResourceList
	egress              []networkingv1.NetworkPolicyEgressRule
	selector            map[string]string
	live, ready         *probe
}

type probe struct {
	path          string
	delay, period int32
}

const cpuShare = 70 // per cent of the CPU request, where a function names no target of its own

var imageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}$`)

// look reads a request. All that is wrong with it is in one answer.
func look(request types.FunctionDeployment, settings Settings) (*plan, error) {
	p := &plan{request: request, labels: map[string]string{}, annotations: map[string]string{}}
	if request.Labels != nil {
		maps.Copy(p.labels, *request.Labels)
	}
	if request.Annotations != nil {
		maps.Copy(p.annotations, *request.Annotations)
	}
	var wrong []string
	refuse := func(format string, arguments ...any) { wrong = append(wrong, fmt.Sprintf(format, arguments...)) }

	if faults := validation.IsDNS1035Label(request.Service); len(faults) > 0 {
		refuse("service is %q, expected a DNS label (a-z, 0-9 and -, at most 63, beginning with a letter)", request.Service)
	}
	if !imageName.MatchString(request.Image) {
		refuse("image is %q, expected REGISTRY/REPOSITORY[:TAG][@DIGEST]", request.Image)
	}
	p.scaling(refuse)
	p.resources(settings, refuse)
	p.timeouts(settings, refuse)
	p.calls(refuse)
	p.live, p.ready = p.probe("com.openfaas.health.http", refuse), p.probe("com.openfaas.ready.http", refuse)
	p.selector = map[string]string{}
	for _, constraint := range request.Constraints {
		key, value, found := strings.Cut(strings.Replace(constraint, "==", "=", 1), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !found || len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			refuse("constraint is %q, expected LABEL=VALUE of a node", constraint)
		}
		p.selector[key] = value
	}
	for _, secret := range request.Secrets {
		if len(validation.IsDNS1123Subdomain(secret)) > 0 {
			refuse("secret is %q, expected the name of a secret", secret)
		}
	}
	for name := range request.EnvVars {
		if len(validation.IsEnvVarName(name)) > 0 {
			refuse("environment variable is %q, expected a name of letters, digits, _, - and .", name)
		}
	}
	for _, flow := range list(p.annotations[flowsAnnotation]) {
		rules, ok := settings.Policy.Flows[flow]
		if !ok {
			allowed := slices.Sorted(maps.Keys(settings.Policy.Flows))
			refuse("annotation %s names the flow %q, expected one that the inventory allows: %s", flowsAnnotation, flow, strings.Join(allowed, ", "))
		}
		p.egress = append(p.egress, rules...)
	}
	for name := range p.annotations {
		domain, _, _ := strings.Cut(name, "/")
		// Of this kind are those that switch seccomp, AppArmor or the mesh off for a pod.
		for _, reserved := range []string{"kubernetes.io", "k8s.io", "istio.io"} {
			if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
				refuse("annotation %s is not taken: functions run restricted and in the mesh, and no annotation changes that", name)
			}
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return nil, functions.Refuse(http.StatusBadRequest, "the function %s is refused: %s", request.Service, strings.Join(wrong, "; "))
	}
	return p, nil
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

type refuser func(format string, arguments ...any)

func (p *plan) scaling(refuse refuser) {
	number := func(label string, otherwise int64) int64 {
		text, ok := p.labels[label]
		if !ok {
			return otherwise
		}
		value, err := strconv.ParseInt(text, 10, 32)
		if err != nil || value < 1 {
			refuse("label %s is %q, expected a whole number from 1", label, text)
			return otherwise
		}
		return value
	}
	p.least = int32(number("com.openfaas.scale.min", 1))
	p.most = int32(number("com.openfaas.scale.max", int64(p.least)))
	if p.most < p.least {
		refuse("label com.openfaas.scale.max is %d, expected at least com.openfaas.scale.min, which is %d", p.most, p.least)
	}
	p.milliCPU = number("com.openfaas.scale.target", 0)
	if kind := p.labels["com.openfaas.scale.type"]; kind != "" && kind != "cpu" {
		refuse("label com.openfaas.scale.type is %q, expected cpu", kind)
	}
	switch text := p.labels["com.openfaas.scale.zero"]; text {
	case "true":
		p.zero = true
	case "", "false":
	default:
		refuse("label com.openfaas.scale.zero is %q, expected true or false", text)
	}
	p.idle = 15 * time.Minute
	if text, ok := p.labels["com.openfaas.scale.zero-duration"]; ok {
		var err error
		if p.idle, err = time.ParseDuration(text); err != nil || p.idle < time.Minute {
			refuse("label com.openfaas.scale.zero-duration is %q, expected a duration of 1m or more", text)
		}
	}
}

func (p *plan) resources(settings Settings, refuse refuser) {
	read := func(from *types.FunctionResources, what string) corev1.ResourceList {
		found := corev1.ResourceList{}
		if from == nil {
			return found
		}
		for name, text := range map[corev1.ResourceName]string{
			corev1.ResourceMemory: from.Memory, corev1.ResourceCPU: from.CPU,
			"nvidia.com/gpu": from.NvidiaGPU, "amd.com/gpu": from.AmdGPU,
		} {
			if text == "" {
				continue
			}
			value, err := resource.ParseQuantity(text)
			if err != nil || value.Sign() <= 0 {
				refuse("%s.%s is %q, expected a quantity as in 128Mi or 100m", what, name, text)
				continue
			}
			found[name] = value
		}
		return found
	}
	p.limits, p.requests = read(p.request.Limits, "limits"), read(p.request.Requests, "requests")
	if _, ok := p.limits[corev1.ResourceMemory]; !ok {
		p.limits[corev1.ResourceMemory] = settings.Memory
	}
	if _, ok := p.requests[corev1.ResourceMemory]; !ok {
		p.requests[corev1.ResourceMemory] = p.limits[corev1.ResourceMemory]
	}
	if _, ok := p.requests[corev1.ResourceCPU]; !ok {
		p.requests[corev1.ResourceCPU] = settings.CPU
		if limit, ok := p.limits[corev1.ResourceCPU]; ok && limit.Cmp(settings.CPU) < 0 {
			p.requests[corev1.ResourceCPU] = limit
		}
	}
	for name, limit := range p.limits {
		if request, ok := p.requests[name]; ok && request.Cmp(limit) > 0 {
			refuse("requests.%s is %s, expected no more than limits.%s, which is %s", name, request.String(), name, limit.String())
		}
	}
}

// The watchdogs of OpenFaaS's templates read these, as Go durations or numbers of seconds.
var watchdogTimeouts = []string{"exec_timeout", "read_timeout", "write_timeout"}

func (p *plan) timeouts(settings Settings, refuse refuser) {
	p.timeout = settings.Timeout
	for _, name := range watchdogTimeouts {
		text, ok := p.request.EnvVars[name]
		if !ok {
			continue
		}
		value, err := seconds(text)
		if err != nil || value <= 0 || value > settings.MaxTimeout {
			refuse("environment variable %s is %q, expected a duration of at most %s", name, text, settings.MaxTimeout)
			continue
		}
		if name == "exec_timeout" {
			p.timeout = value
		}
	}
}

// calls looks at what the queue and the clock read later, where nobody would see a fault any more.
func (p *plan) calls(refuse refuser) {
	for _, name := range []string{functions.RetryAttempts, functions.MaxInflight} {
		if text, ok := p.annotations[name]; ok {
			if number, err := strconv.Atoi(text); err != nil || number < 1 || number > 100 {
				refuse("annotation %s is %q, expected a whole number from 1 to 100", name, text)
			}
		}
	}
	for _, name := range []string{functions.RetryMinWait, functions.RetryMaxWait} {
		if text, ok := p.annotations[name]; ok {
			if wait, err := time.ParseDuration(text); err != nil || wait <= 0 || wait > time.Hour {
				refuse("annotation %s is %q, expected a duration of at most 1h", name, text)
			}
		}
	}
	for _, code := range list(p.annotations[functions.RetryCodes]) {
		if number, err := strconv.Atoi(code); err != nil || number < 400 || number > 599 {
			refuse("annotation %s has %q, expected status codes from 400 to 599", functions.RetryCodes, code)
		}
	}
	switch topic := p.annotations["topic"]; topic {
	case "":
	case "cron-function":
		if _, err := functions.Schedule(p.annotations["schedule"]); err != nil {
			refuse("%s", err)
		}
	default:
		refuse("annotation topic is %q, expected cron-function", topic)
	}
}

func seconds(text string) (time.Duration, error) {
	if number, err := strconv.Atoi(text); err == nil {
		return time.Duration(number) * time.Second, nil
	}
	return time.ParseDuration(text)
}

func (p *plan) probe(prefix string, refuse refuser) *probe {
	path, ok := p.annotations[prefix+".path"]
	if !ok {
		return nil
	}
	if !strings.HasPrefix(path, "/") {
		refuse("annotation %s.path is %q, expected a path that begins with /", prefix, path)
	}
	read := func(name string, otherwise, least int32) int32 {
		text, ok := p.annotations[prefix+"."+name]
		if !ok {
			return otherwise
		}
		value, err := seconds(text)
		if err != nil || value < time.Duration(least)*time.Second || value > time.Hour {
			refuse("annotation %s.%s is %q, expected %d to 3600 seconds", prefix, name, text, least)
			return otherwise
		}
		return int32(value / time.Second)
	}
	return &probe{path: path, delay: read("initialDelay", 0, 0), period: read("periodSeconds", 5, 1)}
}
