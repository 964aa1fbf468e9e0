"""The models as an HTTP service: `stmine serve`, and the client of its answers.

limits    what one request may ask for
problems  what is wrong with a request, by its HTTP status
batching  requests that arrive together go through a model together
bodies    JSON and multipart requests to checked values; images come as bytes, never as paths
asked     the form of each request, and its examples
tasks     search, classification and detection of a batch of requests
service   the models that are served: opened once, a queue for each
counters  numbers for Prometheus
app       addresses, key, answers
server    serves until SIGTERM or Ctrl-C, and finishes pending requests
client    asks a service; needs the standard library alone
"""
