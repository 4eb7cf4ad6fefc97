package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// A step is a request of faas-cli and what it has to get; testdata/faas-cli.json says what each field means. The same
// file is asked of a platform by tests/cluster/test_faas_cli.py.
type step struct {
	Command, Method, Path string
	Login                 *bool
	Queue                 bool
	Body                  any
	Status                int
	Within                float64
	Headers               map[string]string
	Shape, Lines          any
	Holds, Never          string
	Error                 bool
}

func TestConformance(t *testing.T) {
	content, err := os.ReadFile("testdata/faas-cli.json")
	if err != nil {
		t.Fatal(err)
	}
	content = []byte(strings.NewReplacer("{namespace}", "openfaas-fn", "{runtime}", "python-runtime", "{name}", "conformance",
		"{secret}", "conformance-key", "{image}", "registry.example/echo:1").Replace(string(content)))
	var table struct{ Steps []step }
	if err := json.Unmarshal(content, &table); err != nil {
		t.Fatal(err)
	}
	c := start(t)
	for _, s := range table.Steps {
		if s.Queue { // async's own tests have a queue
			continue
		}
		problem := c.take(s)
		for end := time.Now().Add(time.Duration(s.Within * float64(time.Second))); problem != "" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			problem = c.take(s)
		}
		if problem != "" {
			t.Errorf("%s: %s %s: %s", s.Command, s.Method, s.Path, problem)
		}
	}
	if len(table.Steps) < 30 {
		t.Errorf("%d steps", len(table.Steps))
	}
}

func (c client) take(s step) string {
	body := ""
	switch given := s.Body.(type) {
	case nil:
	case string:
		body = given
	default:
		encoded, _ := json.Marshal(given)
		body = string(encoded)
	}
	request, _ := http.NewRequest(s.Method, c.server.URL+s.Path, strings.NewReader(body))
	request.Header.Set("User-Agent", "faas-cli/0.17.4 (openfaas; linux; amd64)")
	if s.Login == nil || *s.Login {
		request.SetBasicAuth("admin", "s3cret")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	if response.StatusCode != s.Status {
		return fmt.Sprintf("%d, expected %d: %s", response.StatusCode, s.Status, content)
	}
	for name, begin := range s.Headers {
		if got := response.Header.Get(name); got == "" || !strings.HasPrefix(got, begin) {
			return fmt.Sprintf("%s is %q, expected %q", name, got, begin)
		}
	}
	if text := strings.TrimSuffix(string(content), "\n"); s.Error && (text == "" || strings.ContainsAny(text, "\n{") || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain")) {
		return fmt.Sprintf("an error of one line of text was expected, found %q", text)
	}
	if s.Holds != "" && !strings.Contains(string(content), `"`+s.Holds+`"`) {
		return fmt.Sprintf("%s is not in it: %s", s.Holds, content)
	}
	if s.Never != "" && strings.Contains(string(content), s.Never) {
		return fmt.Sprintf("it tells %s", s.Never)
	}
	if s.Shape != nil {
		return fits(content, s.Shape)
	}
	if s.Lines != nil {
		lines := 0
		for line := range strings.Lines(string(content)) {
			if lines++; fits([]byte(line), s.Lines) != "" {
				return fits([]byte(line), s.Lines)
			}
		}
		if lines == 0 {
			return "no line"
		}
	}
	return ""
}

func fits(content []byte, shape any) string {
	var value any
	if err := json.Unmarshal(content, &value); err != nil {
		return fmt.Sprintf("%v: %s", err, content)
	}
	return mismatch(value, shape, "the answer")
}

func mismatch(value, shape any, where string) string {
	ok := false
	switch wanted := shape.(type) {
	case map[string]any:
		fields, is := value.(map[string]any)
		for name, inner := range wanted {
			// Go leaves a number out that is 0.
			if _, has := fields[name]; !has && inner == "number" {
				continue
			}
			if text := mismatch(fields[name], inner, where+"."+name); text != "" {
				return text
			}
		}
		ok = is
	case []any:
		var items []any
		if items, ok = value.([]any); ok {
			for _, item := range items {
				if text := mismatch(item, wanted[0], where+"[]"); text != "" {
					return text
				}
			}
		}
	default:
		switch value := value.(type) {
		case string:
			ok = shape == "text" && value != ""
		case float64:
			ok = shape == "number"
		case bool:
			ok = shape == "truth"
		}
	}
	if !ok {
		return fmt.Sprintf("%s is %v, expected %v", where, value, shape)
	}
	return ""
}
