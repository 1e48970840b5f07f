package api

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// The ways in, as the document names them.
var (
	withNothing = []map[string][]string{}
	withCookie  = []map[string][]string{{"cookie": {}}}
	withAny     = []map[string][]string{{"cookie": {}}, {"bearer": {}}}
)

// What may go wrong beside 422 and 500, and 400 and 413 where there is a body.
var (
	readErrors  = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}
	findErrors  = append([]int{http.StatusNotFound}, readErrors...)
	writeErrors = append([]int{http.StatusInsufficientStorage}, findErrors...)
)

func document(version string) huma.Config {
	if version == "" {
		version = "dev"
	}
	components := &huma.Components{
		Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
		SecuritySchemes: map[string]*huma.SecurityScheme{
			"cookie": {Type: "apiKey", In: "cookie", Name: CookieName, Description: "Set by signing in."},
			"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "A token of role agent, or of role service for reading."},
		},
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Holdline", Version: version,
				Description: "What the desk and integrations do over HTTP. What happens is told over MQTT: see topics.md.",
			},
			Components: components,
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{quiet},
	}
}

// operation adds what all have in common. The deadline for reading the body stays on the
// connection while the handler runs, and net/http takes it for the client's going away:
// so it must not be before the handler's own.
func (s *server) operation(o huma.Operation) huma.Operation {
	o.MaxBodyBytes, o.BodyReadTimeout = maxBodyBytes, handlerTimeout
	if o.Method == http.MethodPost || o.Method == http.MethodPut {
		o.Errors = append(slices.Clone(o.Errors), http.StatusBadRequest, http.StatusRequestEntityTooLarge)
	}
	return o
}

// serveDocument publishes what was registered up to now. Requests may not have
// fields we do not know; answers may get new ones, so their schemas stay open.
func (s *server) serveDocument() {
	asked := map[string]bool{}
	for _, path := range s.api.OpenAPI().Paths {
		for _, o := range []*huma.Operation{path.Post, path.Put} {
			if o != nil && o.RequestBody != nil {
				asked[o.RequestBody.Content["application/json"].Schema.Ref] = true
			}
		}
	}
	for name, schema := range s.api.OpenAPI().Components.Schemas.Map() {
		if !asked["#/components/schemas/"+name] {
			schema.AdditionalProperties = nil
		}
	}
	doc, err := json.MarshalIndent(s.api.OpenAPI(), "", "  ")
	if err != nil {
		panic(err) // built from types at start: the golden test would have met it
	}
	doc = append(doc, '\n')
	s.mux.HandleFunc("GET "+prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc) // a client that is gone needs no answer
	})
}
