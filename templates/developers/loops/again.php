<?php // API_URL=... API_KEY=np_... php again.php ord_...
function ask(array $parameters, int $attempts = 8): array
{
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => "Content-Type: application/x-www-form-urlencoded\r\n",
        'content' => http_build_query(['key' => getenv('API_KEY')] + $parameters),
        'timeout' => 30,
        'ignore_errors' => true,
    ]]);
    $wait = 0;
    for ($attempt = 0; $attempt < $attempts; $attempt++) {
        sleep($wait);
        $wait = 2 ** $attempt;
        $http_response_header = [];
        $body = @file_get_contents(getenv('API_URL'), false, $context);
        $status = (int) (explode(' ', $http_response_header[0] ?? '')[1] ?? 0);
        $answer = json_decode((string) $body, true);
        if ($status !== 0 && $status !== 429 && $status < 500 && $answer !== null) {
            return $answer; // what was refused will be refused again
        }
        // Without a status and a whole body there was no answer: the request may have been carried out.
        foreach ($http_response_header as $header) {
            if (preg_match('/^Retry-After: *(\d+)/i', $header, $found)) {
                $wait = (int) $found[1];
            }
        }
    }
    throw new RuntimeException("No answer after $attempts attempts");
}

// Store the request_id with the order before you ask, so that you can repeat the request after a crash too.
echo json_encode(ask(['action' => 'refill', 'order' => $argv[1], 'request_id' => bin2hex(random_bytes(16))])), "\n";
