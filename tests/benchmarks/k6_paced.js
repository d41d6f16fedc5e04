/* k6's open-loop executor against the benchmark's server. */
import http from "k6/http";

export const options = {
  discardResponseBodies: true,
  scenarios: {
    paced: {
      executor: "constant-arrival-rate", rate: Number(__ENV.RATE), timeUnit: "1s", duration: `${__ENV.SECONDS}s`,
      preAllocatedVUs: 100, maxVUs: 400,
    },
  },
};

export default function () {
  http.post(__ENV.URL, '{"x":1}', { headers: { "Content-Type": "application/json" } });
}
