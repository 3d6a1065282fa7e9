# API_URL=... API_KEY=np_... ruby again.rb ord_...
require "json"
require "net/http"
require "securerandom"

def ask(parameters, attempts = 8)
  url = URI(ENV.fetch("API_URL"))
  request = Net::HTTP::Post.new(url)
  request.set_form_data({ key: ENV.fetch("API_KEY"), **parameters })
  wait = 0
  attempts.times do |attempt|
    sleep wait
    wait = 2**attempt
    begin
      answer = Net::HTTP.start(url.host, url.port, use_ssl: url.scheme == "https", read_timeout: 30) do |http|
        http.request(request)
      end
      # Anything else is the answer: what was refused will be refused again.
      return JSON.parse(answer.body) unless answer.code == "429" || answer.code >= "500"

      wait = (answer["Retry-After"] || wait).to_i
    rescue IOError, SystemCallError, SocketError, Timeout::Error, OpenSSL::SSL::SSLError, JSON::ParserError
      # No answer, or only part of one: the request may have been carried out.
    end
  end
  raise "No answer after #{attempts} attempts"
end

# Store the request_id with the order before you ask, so that you can repeat the request after a crash too.
puts JSON.generate(ask({ action: "refill", order: ARGV[0], request_id: SecureRandom.uuid }))
