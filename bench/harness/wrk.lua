-- For wrk: posts the body in the file that is named first, and prints what came of it as one line of JSON.
function init(arguments)
	local file = assert(io.open(arguments[1], "rb"))
	wrk.body = file:read("*a")
	file:close()
	wrk.method = "POST"
	wrk.headers["Content-Type"] = "application/json"
end

function done(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format(
		'JSON {"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,' ..
		'"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
		summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(90),
		latency:percentile(99), latency.max, errors.connect, errors.read, errors.write, errors.status,
		errors.timeout))
end
