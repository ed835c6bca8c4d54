package api

import "net/http"

// Code classes an error for programs; the message is for people.
type Code string

// Error codes.
const (
	CodeBadRequest Code = "bad_request"
	CodeNotFound   Code = "not_found"
	CodeConflict   Code = "conflict" // the state of things forbids it
	CodeMethod     Code = "method_not_allowed"
	CodeTooLarge   Code = "too_large"
	CodeInternal   Code = "internal"
)

// Status gives the HTTP status that goes with the code.
func (c Code) Status() int {
	switch c {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeNotFound:
		return http.StatusNotFound
	case CodeConflict:
		return http.StatusConflict
	case CodeMethod:
		return http.StatusMethodNotAllowed
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusInternalServerError
	}
}

// Error is the agent's refusal: what went wrong and what to do, in a sentence.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// ErrorBody answers every failed request.
type ErrorBody struct {
	Error *Error `json:"error"`
}
