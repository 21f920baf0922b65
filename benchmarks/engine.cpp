// The problem of problem.py solved by a plain C++17 program: the practical limit that gsched is measured against.
//
//     g++ -std=c++17 -O3 -march=native -o engine engine.cpp && echo | ./engine PROBLEM ROWS
//
// Reads PROBLEM, simulates it once for each line of its input and prints the CPU seconds that this took, reading and
// writing excluded. At the end of the input it writes the rows of the last log to ROWS.

#include <time.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <limits>
#include <queue>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int32_t kChain = 3;  // nodes of a request
constexpr int kMaxGpus = 64;   // as many as fit in one mask

struct Problem {
  int64_t requests, gpus, models;
  double bandwidth, overhead;
  std::vector<double> memory, load_time;  // by model
  std::vector<double> arrival;            // by request, ascending
  std::vector<int32_t> model;             // by node
  std::vector<double> duration;           // by node
};

struct Row {  // the facts of one executed node, as in the log
  int32_t node, gpu;
  double ready, switch_time, start, end;
};

struct Ready {
  int32_t node;
  double since;
};

struct Completion {
  double end;
  int32_t row;
  // At equal times, what started first completes first.
  bool operator>(const Completion& other) const { return end != other.end ? end > other.end : row > other.row; }
};

// cost[label][model]: seconds to bring `model` to a GPU that holds `label`; the last label stands for an empty GPU.
std::vector<std::vector<double>> switch_costs(const Problem& problem) {
  std::vector<std::vector<double>> cost(problem.models, std::vector<double>(problem.models, 0.0));
  for (int64_t from = 0; from < problem.models; ++from)
    for (int64_t to = 0; to < problem.models; ++to)
      if (from != to)
        cost[from][to] = (problem.memory[from] + problem.memory[to]) / problem.bandwidth + problem.overhead;
  cost.push_back(problem.load_time);
  return cost;
}

class Simulation {
 public:
  explicit Simulation(const Problem& problem)
      : problem_(problem),
        cost_(switch_costs(problem)),
        label_(problem.gpus, static_cast<int32_t>(problem.models)),
        holds_(problem.models + 1, 0),
        idle_(problem.gpus == kMaxGpus ? ~uint64_t{0} : (uint64_t{1} << problem.gpus) - 1) {
    holds_.back() = idle_;
    rows_.reserve(problem.model.size());
  }

  std::vector<Row> run() {
    constexpr double never = std::numeric_limits<double>::infinity();
    std::size_t next = 0;
    while (next < problem_.arrival.size() || !running_.empty()) {
      const double arrival = next < problem_.arrival.size() ? problem_.arrival[next] : never;
      const double end = running_.empty() ? never : running_.top().end;
      const double now = end <= arrival ? end : arrival;
      while (!running_.empty() && running_.top().end == now) complete(now);
      for (; next < problem_.arrival.size() && problem_.arrival[next] == now; ++next)
        ready_.push({static_cast<int32_t>(next) * kChain, now});
      while (idle_ != 0 && !ready_.empty()) start(now);
    }
    return std::move(rows_);
  }

 private:
  void complete(double now) {
    const Row& row = rows_[running_.top().row];
    running_.pop();
    idle_ |= uint64_t{1} << row.gpu;
    if (row.node % kChain != kChain - 1) ready_.push({row.node + 1, now});
  }

  // A model takes one GPU, so whenever a GPU is idle the head of the queue can start, and one queue is enough.
  void start(double now) {
    const Ready head = ready_.front();
    ready_.pop();
    const int32_t model = problem_.model[head.node];
    const uint64_t warm = idle_ & holds_[model];
    const int32_t gpu = __builtin_ctzll(warm != 0 ? warm : idle_);
    const double switch_time = cost_[label_[gpu]][model];
    relabel(gpu, model);
    const double start = now + switch_time;
    const double end = start + problem_.duration[head.node];
    running_.push({end, static_cast<int32_t>(rows_.size())});
    rows_.push_back({head.node, gpu, head.since, switch_time, start, end});
  }

  void relabel(int32_t gpu, int32_t model) {
    const uint64_t bit = uint64_t{1} << gpu;
    idle_ &= ~bit;
    holds_[label_[gpu]] &= ~bit;
    holds_[model] |= bit;
    label_[gpu] = model;
  }

  const Problem& problem_;
  const std::vector<std::vector<double>> cost_;
  std::vector<int32_t> label_;   // by GPU: the model it holds, or the number of models
  std::vector<uint64_t> holds_;  // by label: the GPUs that carry it
  uint64_t idle_;                // the idle GPUs
  std::queue<Ready> ready_;
  std::priority_queue<Completion, std::vector<Completion>, std::greater<>> running_;
  std::vector<Row> rows_;
};

template <typename T>
std::vector<T> read(std::ifstream& file, int64_t count) {
  std::vector<T> values(count);
  file.read(reinterpret_cast<char*>(values.data()), count * sizeof(T));
  return values;
}

Problem read_problem(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const auto sizes = read<int64_t>(file, 3);
  const auto transfer = read<double>(file, 2);
  Problem problem{sizes[0], sizes[1], sizes[2], transfer[0], transfer[1], {}, {}, {}, {}, {}};
  problem.memory = read<double>(file, problem.models);
  problem.load_time = read<double>(file, problem.models);
  problem.arrival = read<double>(file, problem.requests);
  problem.model = read<int32_t>(file, problem.requests * kChain);
  problem.duration = read<double>(file, problem.requests * kChain);
  if (!file) throw std::runtime_error(std::string(path) + ": is not a problem");
  if (problem.gpus < 1 || problem.gpus > kMaxGpus) throw std::runtime_error("only 1 to 64 GPUs");
  return problem;
}

double cpu_seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: engine PROBLEM ROWS");
  const Problem problem = read_problem(argv[1]);
  std::vector<Row> rows;
  std::cout.precision(9);
  for (std::string line; std::getline(std::cin, line);) {
    rows = std::vector<Row>();
    const double begin = cpu_seconds();
    rows = Simulation(problem).run();
    std::cout << cpu_seconds() - begin << std::endl;
  }
  std::ofstream file(argv[2], std::ios::binary);
  file.write(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(Row));
  return file.flush() ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << "engine: " << error.what() << '\n';
  return 2;
}
