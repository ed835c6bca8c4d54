package server

import (
	"net/http"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// routes lists what can be asked, by path and method.
func routes(b Backend) map[string]map[string]handler {
	return map[string]map[string]handler{
		api.Prefix + "/status": {
			http.MethodGet: func(*http.Request) (int, any, error) { return http.StatusOK, b.Status(), nil },
		},
		api.Prefix + "/switches": {
			http.MethodGet: func(*http.Request) (int, any, error) { return http.StatusOK, b.Switches(), nil },
		},
		api.Prefix + "/switches/{switch}": {
			http.MethodGet: func(r *http.Request) (int, any, error) { return ok(b.Switch(r.PathValue("switch"))) },
		},
		api.Prefix + "/switches/{switch}/fdb": {
			http.MethodGet:    func(r *http.Request) (int, any, error) { return ok(b.FDB(r.PathValue("switch"))) },
			http.MethodDelete: func(r *http.Request) (int, any, error) { return ok(b.FlushFDB(r.PathValue("switch"))) },
		},
		api.Prefix + "/switches/{switch}/fdb/{mac}": {
			http.MethodPut: func(r *http.Request) (int, any, error) {
				var target api.FDBTarget
				if err := decode(r, &target); err != nil {
					return 0, nil, err
				}
				return done(b.AddStatic(r.PathValue("switch"), r.PathValue("mac"), target.Port))
			},
			http.MethodDelete: func(r *http.Request) (int, any, error) {
				return done(b.RemoveFDB(r.PathValue("switch"), r.PathValue("mac")))
			},
		},
		api.Prefix + "/ports/{port}": {
			http.MethodGet: func(r *http.Request) (int, any, error) { return ok(b.Port(r.PathValue("port"))) },
			http.MethodPut: func(r *http.Request) (int, any, error) {
				var spec api.PortSpec
				if err := decode(r, &spec); err != nil {
					return 0, nil, err
				}
				return put(b.PutPort(r.PathValue("port"), spec))
			},
			http.MethodPatch: func(r *http.Request) (int, any, error) {
				var spec api.PortSpec
				if err := decode(r, &spec); err != nil {
					return 0, nil, err
				}
				return ok(b.PatchPort(r.PathValue("port"), spec))
			},
			http.MethodDelete: func(r *http.Request) (int, any, error) {
				return done(b.DeletePort(r.PathValue("port"), r.URL.Query().Get("force") == "true"))
			},
		},
		api.Prefix + "/vms": {
			http.MethodGet: func(*http.Request) (int, any, error) { return http.StatusOK, b.VMs(), nil },
		},
		api.Prefix + "/vms/{vm}": {
			http.MethodGet: func(r *http.Request) (int, any, error) { return ok(b.VM(r.PathValue("vm"))) },
			http.MethodPut: func(r *http.Request) (int, any, error) {
				var vm api.VM
				if err := decode(r, &vm); err != nil {
					return 0, nil, err
				}
				return put(b.PutVM(r.PathValue("vm"), vm))
			},
			http.MethodDelete: func(r *http.Request) (int, any, error) { return done(b.DeleteVM(r.PathValue("vm"))) },
		},
	}
}

func ok[T any](v T, err error) (int, any, error) { return http.StatusOK, v, err }

func put[T any](v T, created bool, err error) (int, any, error) {
	if created {
		return http.StatusCreated, v, err
	}
	return http.StatusOK, v, err
}

func done(err error) (int, any, error) { return http.StatusNoContent, nil, err }
