package async

import (
	"net/netip"
	"strings"
	"time"

	"lambda_microservice.platform/images/openfaas/internal/settings"
)

// OptionsFrom reads the variables that both programs have. Without NATS_URL there is no queue.
func OptionsFrom(env *settings.Reader) Options {
	o := Options{
		URL: env.Text("NATS_URL", ""), User: env.Text("NATS_USER", ""), PasswordFile: env.Text("NATS_PASSWORD_FILE", ""),
		CAFile: env.Text("NATS_CA_FILE", ""), Replicas: env.Number("NATS_REPLICAS", 1, 1, 5),
		AckWait:  env.Seconds("ACK_WAIT_SECONDS", 30*time.Second),
		MaxBytes: int64(env.Number("QUEUE_MAX_BYTES", 0, 0, 1<<50)),
	}
	for _, server := range strings.Split(o.URL, ",") {
		if o.URL != "" && !strings.HasPrefix(server, "nats://") && !strings.HasPrefix(server, "tls://") {
			env.Refuse("NATS_URL", o.URL, "nats://HOST[:PORT] or tls://HOST[:PORT], separated by commas")
			break
		}
	}
	if o.User != "" && o.PasswordFile == "" {
		env.Refuse("NATS_PASSWORD_FILE", "", "the file of the password of NATS_USER")
	}
	if o.AckWait < time.Second {
		env.Refuse("ACK_WAIT_SECONDS", o.AckWait.String(), "at least 1")
	}
	return o
}

// CallbacksFrom reads where results may be sent. The gateway refuses others at once, the worker once more.
func CallbacksFrom(env *settings.Reader) *Callbacks {
	var networks []netip.Prefix
	for _, text := range env.List("CALLBACK_NETWORKS") {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			env.Refuse("CALLBACK_NETWORKS", text, "networks as in 10.1.0.0/16")
			continue
		}
		networks = append(networks, network)
	}
	return NewCallbacks(env.List("CALLBACK_HOSTS"), networks)
}
